package sdk

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	goopenai "github.com/sashabaranov/go-openai"
	"github.com/stretchr/testify/require"
	"github.com/tmc/langchaingo/llms"
	langanthropic "github.com/tmc/langchaingo/llms/anthropic"
	langollama "github.com/tmc/langchaingo/llms/ollama"
	langopenai "github.com/tmc/langchaingo/llms/openai"

	"github.com/ngraf/kv"
	"github.com/ngraf/kv/internal/llmtest"
	"github.com/ngraf/kv/kvllm"
)

const question = "How does it begin?"

// An sdk asks a question by way of an HTTP client, and returns all that came.
type sdk struct {
	name string
	ask  func(ctx context.Context, c *http.Client, url string, stream bool) (string, error)
}

var sdks = []sdk{
	{"openai-go chat", askOpenAI},
	{"openai-go tools and images", askOpenAITools},
	{"openai-go responses", askResponses},
	{"openai-go embeddings", embedOpenAI},
	{"anthropic-sdk-go", askAnthropic},
	{"anthropic-sdk-go tools", askAnthropicTools},
	{"go-openai", askGoOpenAI},
	{"langchaingo openai", func(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
		m, err := langopenai.New(langopenai.WithHTTPClient(c), langopenai.WithBaseURL(url+"/v1"), langopenai.WithToken("secret"), langopenai.WithModel("m"))
		return askLangchain(ctx, m, err, stream)
	}},
	{"langchaingo anthropic", func(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
		m, err := langanthropic.New(langanthropic.WithHTTPClient(c), langanthropic.WithBaseURL(url+"/v1"), langanthropic.WithToken("secret"), langanthropic.WithModel("m"))
		return askLangchain(ctx, m, err, stream)
	}},
	{"langchaingo ollama", func(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
		m, err := langollama.New(langollama.WithHTTPClient(c), langollama.WithServerURL(url), langollama.WithModel("m"))
		return askLangchain(ctx, m, err, stream)
	}},
}

func openAI(c *http.Client, url string) openai.Client {
	return openai.NewClient(option.WithHTTPClient(c), option.WithBaseURL(url+"/v1"), option.WithAPIKey("secret"), option.WithMaxRetries(0))
}

func chatOpenAI(ctx context.Context, c *http.Client, url string, stream bool, q openai.ChatCompletionNewParams) (string, error) {
	client := openAI(c, url)
	if !stream {
		r, err := client.Chat.Completions.New(ctx, q)
		if err != nil {
			return "", err
		}
		return r.RawJSON(), nil
	}
	s := client.Chat.Completions.NewStreaming(ctx, q)
	defer s.Close()
	var all strings.Builder
	for s.Next() {
		all.WriteString(s.Current().RawJSON())
	}
	return all.String(), s.Err()
}

func askOpenAI(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	return chatOpenAI(ctx, c, url, stream, openai.ChatCompletionNewParams{
		Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)}, Seed: openai.Int(7),
	})
}

func askOpenAITools(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	return chatOpenAI(ctx, c, url, stream, openai.ChatCompletionNewParams{
		Model: "m",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
			openai.TextContentPart(question),
			openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:image/png;base64,AAAA"}),
		})},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}, "day": map[string]any{"type": "string"}}},
		})},
	})
}

func askResponses(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	client := openAI(c, url)
	q := responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(question)}}
	if !stream {
		r, err := client.Responses.New(ctx, q)
		if err != nil {
			return "", err
		}
		return r.RawJSON(), nil
	}
	s := client.Responses.NewStreaming(ctx, q)
	defer s.Close()
	var all strings.Builder
	for s.Next() {
		all.WriteString(s.Current().RawJSON())
	}
	return all.String(), s.Err()
}

func embedOpenAI(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	client := openAI(c, url)
	r, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "m", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(question)}})
	if err != nil {
		return "", err
	}
	return r.RawJSON(), nil
}

func anthropicQuestion() anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: "m", MaxTokens: 9,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock(question), anthropic.NewImageBlockBase64("image/png", "AAAA"))},
	}
}

func askAnthropic(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	return messageOf(ctx, c, url, stream, anthropicQuestion())
}

func askAnthropicTools(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	q := anthropicQuestion()
	q.Tools = []anthropic.ToolUnionParam{{OfTool: &anthropic.ToolParam{Name: "weather", InputSchema: anthropic.ToolInputSchemaParam{Properties: map[string]any{"city": map[string]any{"type": "string"}}}}}}
	return messageOf(ctx, c, url, stream, q)
}

func messageOf(ctx context.Context, c *http.Client, url string, stream bool, q anthropic.MessageNewParams) (string, error) {
	client := anthropic.NewClient(anthropicoption.WithHTTPClient(c), anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("secret"), anthropicoption.WithMaxRetries(0))
	if !stream {
		r, err := client.Messages.New(ctx, q)
		if err != nil {
			return "", err
		}
		return r.RawJSON(), nil
	}
	s := client.Messages.NewStreaming(ctx, q)
	defer s.Close()
	var all strings.Builder
	for s.Next() {
		all.WriteString(s.Current().RawJSON())
	}
	return all.String(), s.Err()
}

func askGoOpenAI(ctx context.Context, c *http.Client, url string, stream bool) (string, error) {
	cfg := goopenai.DefaultConfig("secret")
	cfg.BaseURL, cfg.HTTPClient = url+"/v1", c
	client := goopenai.NewClientWithConfig(cfg)
	q := goopenai.ChatCompletionRequest{Model: "m", Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: question}}}
	if !stream {
		r, err := client.CreateChatCompletion(ctx, q)
		if err != nil {
			return "", err
		}
		return r.Choices[0].Message.Content, nil
	}
	s, err := client.CreateChatCompletionStream(ctx, q)
	if err != nil {
		return "", err
	}
	defer s.Close()
	var all strings.Builder
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
		if len(r.Choices) > 0 {
			all.WriteString(r.Choices[0].Delta.Content + "|")
		}
	}
}

func askLangchain(ctx context.Context, m llms.Model, err error, stream bool) (string, error) {
	if err != nil {
		return "", err
	}
	var all strings.Builder
	var o []llms.CallOption
	if stream {
		o = append(o, llms.WithStreamingFunc(func(_ context.Context, part []byte) error {
			all.Write(part)
			all.WriteByte('|')
			return nil
		}))
	}
	r, err := m.GenerateContent(ctx, []llms.MessageContent{llms.TextParts(llms.ChatMessageTypeHuman, question)}, o...)
	if err != nil {
		return all.String(), err
	}
	return all.String() + r.Choices[0].Content, nil
}

func open(t *testing.T) kv.Store {
	s, err := kv.Open(t.Context(), kv.Config{WorkingDir: t.TempDir()}, "llm_response_cache", kv.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func httpClient(t *testing.T, s kv.Store) *http.Client {
	next := &http.Transport{}
	t.Cleanup(next.CloseIdleConnections)
	if s == nil {
		return &http.Client{Transport: next}
	}
	return kvllm.Client(s, next)
}

// each runs a test for each SDK, without and with a stream.
func each(t *testing.T, do func(t *testing.T, one sdk, stream bool, p *llmtest.Provider)) {
	for _, one := range sdks {
		for _, stream := range []bool{false, true} {
			name := one.name
			if stream {
				name += " stream"
			}
			t.Run(name, func(t *testing.T) { do(t, one, stream, llmtest.New(t)) })
		}
	}
}

// The second call gives what the first gave, which is what there is without a
// cache, and the provider is called once.
func TestSecondCall(t *testing.T) {
	each(t, func(t *testing.T, one sdk, stream bool, p *llmtest.Provider) {
		want, err := one.ask(t.Context(), httpClient(t, nil), p.URL, stream)
		require.NoError(t, err)
		require.NotEmpty(t, want)
		c := httpClient(t, open(t))
		for range 3 {
			got, err := one.ask(t.Context(), c, p.URL, stream)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.Equal(t, 2, p.Calls())
	})
}

// Where the connection is cut the SDK gives the error that it gives without a
// cache, and nothing is stored.
func TestCut(t *testing.T) {
	each(t, func(t *testing.T, one sdk, stream bool, p *llmtest.Provider) {
		s := open(t)
		c, plain := httpClient(t, s), httpClient(t, nil)
		for _, cut := range []int{1, 50, 100, 137} {
			p.Cut = cut
			want, wrong := one.ask(t.Context(), plain, p.URL, stream)
			got, err := one.ask(t.Context(), c, p.URL, stream)
			require.Equal(t, want, got)
			if wrong == nil {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, wrong.Error())
			}
			for id, err := range s.Keys(t.Context()) {
				t.Fatal("stored", id, err)
			}
		}
	})
}

// A provider's refusal is the SDK's error, and nothing is stored.
func TestRefusal(t *testing.T) {
	each(t, func(t *testing.T, one sdk, stream bool, p *llmtest.Provider) {
		c, plain := httpClient(t, open(t)), httpClient(t, nil)
		for _, status := range []int{401, 429, 500} {
			p.Status = status
			_, want := one.ask(t.Context(), plain, p.URL, stream)
			_, err := one.ask(t.Context(), c, p.URL, stream)
			require.EqualError(t, err, want.Error())
		}
		p.Status = 0
		before := p.Calls()
		for range 2 {
			_, err := one.ask(t.Context(), c, p.URL, stream)
			require.NoError(t, err)
		}
		require.Equal(t, before+1, p.Calls())
	})
}
