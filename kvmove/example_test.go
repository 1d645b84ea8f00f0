package kvmove_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/kvmove"
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

	report, err := kvmove.Migrate(ctx, dst, src, kvmove.Options{})
	fmt.Println(report.Copied, "copied,", report.SkippedIDs, "skipped,", err)

	report, err = kvmove.Migrate(ctx, dst, src, kvmove.Options{Mirror: true})
	fmt.Println(report.Overwritten, "overwritten,", err)

	compared, err := kvmove.Verify(ctx, src, dst)
	fmt.Println(compared.Differences, compared.A == compared.B, err)
	// Output:
	// 1 copied, [doc-T] skipped, <nil>
	// 1 overwritten, <nil>
	// [] true <nil>
}

// A backup is one file. Importing it into another directory, or into Redis,
// is the way back.
func ExampleExport() {
	cfg, clean := tempConfig()
	defer clean()
	ctx := context.Background()
	factory, err := kv.NewFactory(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer factory.Close()
	docs, err := factory.Open(ctx, "full_docs")
	if err != nil {
		log.Fatal(err)
	}
	if err := docs.Upsert(ctx, map[string]json.RawMessage{"doc-1": json.RawMessage(`{"content":"…"}`)}); err != nil {
		log.Fatal(err)
	}

	var backup bytes.Buffer
	if _, err := kvmove.Export(ctx, &backup, factory.Open, "full_docs"); err != nil {
		log.Fatal(err)
	}
	if err := docs.Drop(ctx); err != nil {
		log.Fatal(err)
	}
	reports, err := kvmove.Import(ctx, &backup, factory.Open, kvmove.Merge)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reports[0].Namespace, reports[0].Stored)
	// Output: full_docs 1
}

// tempConfig keeps an example's files out of the way.
func tempConfig() (kv.Config, func()) {
	dir, err := os.MkdirTemp("", "kv-example")
	if err != nil {
		log.Fatal(err)
	}
	return kv.Config{WorkingDir: dir}, func() { _ = os.RemoveAll(dir) }
}
