package coordinator_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"

	wire "souk/shared/contract/coordinator"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// A connection keeps the plan of a statement that it has made when the tables were empty. It must be one for full tables.
func TestPlans_madeOnEmptyTablesDoForFullOnes(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range 20 {
		done := make(chan error)
		const company = 5
		for range company {
			go func() {
				alone := transfer(uuid.Must(uuid.NewV7()), 1)
				alone.Branches = alone.Branches[1:]
				_, err := wire.BeginTransaction.Call(t.Context(), s.client, &wire.BeginInput{Body: alone})
				if err == nil {
					_, err = wire.BeginTransaction.Call(t.Context(), s.client, &wire.BeginInput{Body: transfer(uuid.Must(uuid.NewV7()), 1)})
				}
				done <- err
			}()
		}
		for range company {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	for table, db := range map[string]*gorm.DB{"decision": s.db, "tx_branch": s.east.DB} {
		plans := genericPlans(t, db, table)
		if len(plans) < 3 {
			t.Errorf("%d statements on %s are prepared, want those of a transaction", len(plans), table)
		}
		for statement, plan := range plans {
			if strings.Contains(plan, "Seq Scan on "+table) {
				t.Errorf("reads the whole of %s:\n%s\n%s", table, statement, plan)
			}
			if byKey := strings.Contains(statement, "gid = "); byKey && strings.Contains(plan, "_in_doubt") || byKey && strings.Contains(plan, "_due") {
				t.Errorf("looks for a transaction among all that have just been open:\n%s\n%s", statement, plan)
			}
		}
	}
}

// genericPlans gives the plans of the statements on table that db's connections have prepared, whatever their parameters.
func genericPlans(t *testing.T, db *gorm.DB, table string) map[string]string {
	t.Helper()
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	plans := map[string]string{}
	for range pool.Stats().OpenConnections {
		c, err := pool.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // and not before: the pool would give it again
		if _, err := c.ExecContext(t.Context(), "SET plan_cache_mode = force_generic_plan"); err != nil {
			t.Fatal(err)
		}
		for statement, call := range prepared(t, c, table) {
			plans[statement] = strings.Join(column(t, c, "EXPLAIN EXECUTE "+call), "\n")
		}
	}
	return plans
}

// prepared gives the statements on table, each with how it is executed.
func prepared(t *testing.T, c *sql.Conn, table string) map[string]string {
	t.Helper()
	calls := map[string]string{}
	for _, line := range column(t, c, `SELECT format('%s|%I(%s)', statement, name, array_to_string(array_fill('NULL'::text, ARRAY[cardinality(parameter_types)]), ', '))
		FROM pg_prepared_statements WHERE statement ~ '(FROM|UPDATE|INTO) `+table+`' AND statement !~ 'pg_prepared'`) {
		statement, call, _ := strings.Cut(line, "|stmt")
		calls[statement] = fmt.Sprint("stmt", strings.TrimSuffix(call, "()"))
	}
	return calls
}

func column(t *testing.T, c *sql.Conn, query string) (values []string) {
	t.Helper()
	rows, err := c.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return values
}
