package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// exportTime bounds one export, as in OpenTelemetry's own exporter.
const exportTime = 10 * time.Second

// otlpClient sends spans over OTLP/HTTP (opentelemetry.io/docs/specs/otlp). OpenTelemetry's own client does the same and
// more, but links all of gRPC for it: 2.3 MB of each binary, resident in each process, for one POST.
type otlpClient struct {
	url    string
	client *http.Client
}

func newOTLPClient(endpoint string) *otlpClient {
	return &otlpClient{url: strings.TrimSuffix(endpoint, "/") + "/v1/traces", client: &http.Client{Timeout: exportTime}}
}

// Start is part of otlptrace.Client; there is nothing to start.
func (*otlpClient) Start(context.Context) error { return nil }

// Stop is part of otlptrace.Client.
func (c *otlpClient) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces is part of otlptrace.Client. On the wire TracesData is the same message as ExportTraceServiceRequest.
func (c *otlpClient) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("export traces: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("export traces: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("export traces: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection can be used again
	if resp.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("export traces: %s", resp.Status)
	}
	return nil
}
