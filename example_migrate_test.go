package kv_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/ngraf/kv"
)

// To carry documents to another backend, open the namespace on both. With
// Redis on one side, its Config has Backend: "redis".
func ExampleMigrate() {
	from, cleanFrom := tempConfig()
	defer cleanFrom()
	to, cleanTo := tempConfig()
	defer cleanTo()
	ctx := context.Background()
	src, err := kv.Open(ctx, from, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	defer src.Close()
	dst, err := kv.Open(ctx, to, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	defer dst.Close()
	doc := func(text string) map[string]json.RawMessage {
		return map[string]json.RawMessage{"doc-" + text[:1]: json.RawMessage(fmt.Sprintf("{\"content\": %q}", text))}
	}
	_ = src.Upsert(ctx, doc("A tale"))
	_ = src.Upsert(ctx, doc("Two cities"))
	_ = dst.Upsert(ctx, doc("Ten cities")) // Another value under the same id.

	report, err := kv.Migrate(ctx, dst, src, kv.MigrateOptions{})
	fmt.Println(report.Copied, "copied,", report.SkippedIDs, "skipped,", err)

	report, err = kv.Migrate(ctx, dst, src, kv.MigrateOptions{Mirror: true})
	fmt.Println(report.Overwritten, "overwritten,", err)

	compared, err := kv.Verify(ctx, src, dst)
	fmt.Println(compared.Differences, compared.A == compared.B, err)
	// Output:
	// 1 copied, [doc-T] skipped, <nil>
	// 1 overwritten, <nil>
	// [] true <nil>
}
