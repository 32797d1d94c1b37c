package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresConfig says how to start a PostgreSQL server. The zero value is a private server for tests: a free port, a
// folder of its own that vanishes with it, trust on loopback.
type PostgresConfig struct {
	// Dir holds the cluster, its log and its pid file, and is kept when the server stops; a cluster already there is
	// started again. Empty means a temporary folder that is removed when the server stops. Under root the user
	// postgres must be able to reach it: see [ServerDir].
	Dir string
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// Password of the superuser postgres. With it every login needs its password (SCRAM); empty trusts loopback.
	Password string
	// FsyncOff trades the survival of a power cut for speed. For unit tests only.
	FsyncOff bool
	// Detach lets the server outlive this process. Otherwise it ends with it, whatever way it ends.
	Detach bool
	// Started is told the process id of a detached server before it answers, so that it can be written down: whatever
	// happens next, somebody can stop it. May be nil.
	Started func(pid int) error
	// Log receives one line per step; nil discards them.
	Log io.Writer
}

// PostgresServer is a running PostgreSQL that answers on 127.0.0.1 only. Unless
// it was started with Detach, keep the handle: a server that nobody can reach any more is stopped.
type PostgresServer struct {
	// Port on 127.0.0.1.
	Port int
	// Dir holds the cluster and server.log.
	Dir string
	// Version is the server's own, such as "15.18".
	Version string

	password string
	process  *process
	pid      int
}

// StartPostgres starts the newest PostgreSQL found on PATH or in Debian's folders and returns once it accepts
// connections. Started by root, it runs as the user postgres, because PostgreSQL refuses to run as root.
func StartPostgres(ctx context.Context, cfg PostgresConfig) (*PostgresServer, error) {
	bin, err := PostgresBin(ctx)
	if err != nil {
		return nil, err
	}
	account, err := postgresAccount()
	if err != nil {
		return nil, err
	}
	private := cfg.Dir == ""
	if private {
		if cfg.Dir, err = temporaryDir("souk-postgres-"); err != nil {
			return nil, err
		}
	}
	s := &PostgresServer{Dir: cfg.Dir, password: cfg.Password}
	if err := s.start(ctx, cfg, bin, account, private); err != nil {
		if private {
			err = errors.Join(err, os.RemoveAll(cfg.Dir))
		}
		return nil, err
	}
	return s, nil
}

func (s *PostgresServer) start(ctx context.Context, cfg PostgresConfig, bin string, account *syscall.Credential, private bool) error {
	if cfg.Log == nil {
		cfg.Log = io.Discard
	}
	if err := ownDir(s.Dir, account); err != nil {
		return err
	}
	data := filepath.Join(s.Dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		begin := time.Now()
		if err := initCluster(ctx, cfg, bin, data, account); err != nil {
			return err
		}
		fmt.Fprintf(cfg.Log, "postgres: cluster made in %s\n", time.Since(begin).Round(time.Millisecond))
	}

	begin := time.Now()
	// A port found free may be taken before the server binds it; a fixed port is tried once.
	for attempt := 1; ; attempt++ {
		s.Port = cfg.Port
		if s.Port == 0 {
			var err error
			if s.Port, err = FreePort(ctx); err != nil {
				return err
			}
		}
		err := s.launch(ctx, cfg, bin, data, account, private)
		if err == nil {
			break
		}
		if cfg.Port != 0 || attempt == 5 || !portTaken(err) {
			return err
		}
	}
	fmt.Fprintf(cfg.Log, "postgres: %s answers on %s after %s (pid %d)\n",
		s.Version, loopback(s.Port), time.Since(begin).Round(time.Millisecond), s.pid)
	return nil
}

// launch starts the server on s.Port and waits for its first answer.
func (s *PostgresServer) launch(ctx context.Context, cfg PostgresConfig, bin, data string, account *syscall.Credential, private bool) error {
	argv := []string{
		filepath.Join(bin, "postgres"), "-D", data,
		"-c", "listen_addresses=127.0.0.1",
		"-c", "port=" + strconv.Itoa(s.Port),
		"-c", "unix_socket_directories=" + socketDir(s.Dir),
		// Enough for every service with its pool, or for a package of parallel tests with eight connections each.
		"-c", "max_connections=300",
		"-c", "timezone=UTC",
		"-c", "log_timezone=UTC",
		"-c", "logging_collector=off",
	}
	if cfg.FsyncOff {
		argv = append(argv, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	stop := syscall.SIGINT // fast shutdown: open transactions roll back, the cluster is left clean
	if private {
		stop = syscall.SIGQUIT // immediate: the cluster is thrown away
	}
	process, err := start(ctx, command{
		argv: argv, dir: s.Dir, stop: stop, cred: account, detach: cfg.Detach, started: cfg.Started, wipe: private,
	})
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	err = process.await(ctx, "postgres", func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, s.URL("postgres", "postgres", s.password))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		return conn.QueryRow(ctx, "SHOW server_version").Scan(&s.Version)
	})
	if err != nil {
		return err
	}
	if process.pid == 0 {
		if process.pid, err = readPID(s.Dir); err != nil {
			return errors.Join(err, process.end(ctx))
		}
	}
	s.Version, _, _ = strings.Cut(s.Version, " ")
	s.process, s.pid = process, process.pid
	return nil
}

// URL of database as user. The password may be empty on a server without one.
func (s *PostgresServer) URL(database, user, password string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     loopback(s.Port),
		Path:     "/" + database,
		RawQuery: "sslmode=disable",
	}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// AdminURL of database as the superuser.
func (s *PostgresServer) AdminURL(database string) string {
	return s.URL(database, "postgres", s.password)
}

// PID of the postmaster.
func (s *PostgresServer) PID() int { return s.pid }

// Stop shuts the server down, rolling back what is open, and waits until it is gone.
func (s *PostgresServer) Stop(ctx context.Context) error {
	if err := s.process.end(ctx); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// initCluster makes a new cluster in data.
func initCluster(ctx context.Context, cfg PostgresConfig, bin, data string, account *syscall.Credential) error {
	args := []string{"-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-instructions"}
	if cfg.FsyncOff {
		args = append(args, "--no-sync")
	}
	if cfg.Password == "" {
		args = append(args, "--auth=trust")
	} else {
		file := filepath.Join(cfg.Dir, "password")
		if err := os.WriteFile(file, []byte(cfg.Password+"\n"), 0o600); err != nil {
			return fmt.Errorf("hand over the superuser password: %w", err)
		}
		defer func() { _ = os.Remove(file) }() // the folder is closed to others in any case
		if account != nil {
			if err := os.Chown(file, int(account.Uid), int(account.Gid)); err != nil {
				return fmt.Errorf("hand over the superuser password: %w", err)
			}
		}
		args = append(args, "--auth=scram-sha-256", "--pwfile="+file)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.Dir = cfg.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account}
	if out, err := cmd.CombinedOutput(); err != nil {
		// What is half made would be taken for a cluster next time.
		return errors.Join(fmt.Errorf("initdb: %w: %s", err, strings.TrimSpace(string(out))), os.RemoveAll(data))
	}
	return nil
}

// socketDir is where the server may put its unix socket: in dir, unless the path would be longer than the 107 bytes
// a socket address holds; then there is none.
func socketDir(dir string) string {
	if len(dir)+len("/.s.PGSQL.65535.lock") > 107 {
		return ""
	}
	return dir
}

// PostgresBin finds the folder with the newest initdb and postgres. Returns ErrNoPostgres when there is none.
func PostgresBin(ctx context.Context) (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"} {
		found, err := filepath.Glob(pattern)
		if err == nil { // the patterns are constants and well formed
			dirs = append(dirs, found...)
		}
	}
	best, bestVersion := "", 0.0
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
		fields := strings.Fields(string(out))
		if len(fields) < 3 {
			continue
		}
		version, err := strconv.ParseFloat(fields[2], 64)
		if err == nil && version > bestVersion {
			best, bestVersion = dir, version
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if best == "" {
		return "", ErrNoPostgres
	}
	return best, nil
}

// ErrNoPostgres says that this machine has no PostgreSQL server programs.
var ErrNoPostgres = errors.New("no PostgreSQL server found on PATH or in /usr/lib/postgresql/*/bin")

// postgresAccount is the user the server runs as: nil (this process's own) unless that is root.
func postgresAccount() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no user postgres to run it as: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
