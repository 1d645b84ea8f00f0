package sdk

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/kvllm"
)

// The README's program.
func Example() {
	ctx, cfg, question, clean := exampleSetup()
	defer clean()
	store, err := kv.Open(ctx, cfg, "llm_response_cache")
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	client := openai.NewClient(option.WithHTTPClient(kvllm.Client(store, nil)))
	answer, err := client.Chat.Completions.New(ctx, question) // The second time it is free.
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(answer.Choices[0].FinishReason)
	// Output: stop
}

// exampleSetup gives the SDK a provider by the variables that it reads.
func exampleSetup() (context.Context, kv.Config, openai.ChatCompletionNewParams, func()) {
	dir, err := os.MkdirTemp("", "sdk")
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(new(llmtest.Provider))
	os.Setenv("OPENAI_BASE_URL", server.URL+"/v1")
	os.Setenv("OPENAI_API_KEY", "secret")
	q := openai.ChatCompletionNewParams{Model: "gpt-4o", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("How does it begin?")}}
	return context.Background(), kv.Config{WorkingDir: dir}, q, func() {
		server.Close()
		os.RemoveAll(dir)
	}
}

// The README shows the program that is run here.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	source, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, program, ok := strings.Cut(string(source), "\tdefer clean()\n")
	require.True(t, ok)
	program, _, ok = strings.Cut(program, "\tif err != nil {\n\t\tlog.Fatal(err)\n\t}\n\tfmt")
	require.True(t, ok)
	shown := strings.TrimPrefix(strings.ReplaceAll("\n"+program, "\n\t", "\n"), "\n")
	require.Contains(t, string(readme), "```go\n"+shown+"```")
}
