package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
)

// The shapes that nano-graphrag keeps in three of its four namespaces; that of
// cached answers is kvllm's.

type document struct {
	Content string `json:"content"`
}

type chunk struct {
	Tokens          int    `json:"tokens"`
	Content         string `json:"content"`
	ChunkOrderIndex int    `json:"chunk_order_index"`
	FullDocID       string `json:"full_doc_id"`
}

type communityReport struct {
	ReportString   string          `json:"report_string"`
	ReportJSON     json.RawMessage `json:"report_json"`
	Level          int             `json:"level"`
	Title          string          `json:"title"`
	Edges          [][2]string     `json:"edges"`
	Nodes          []string        `json:"nodes"`
	ChunkIDs       []string        `json:"chunk_ids"`
	Occurrence     float64         `json:"occurrence"`
	SubCommunities []string        `json:"sub_communities"`
}

// hashID makes an id as the Python original does.
func hashID(prefix, text string) string {
	sum := md5.Sum([]byte(text))
	return prefix + hex.EncodeToString(sum[:])
}

const (
	carol  = "Marley was dead: to begin with. There is no doubt whatever about that."
	cities = "It was the best of times, it was the worst of times, it was the age of wisdom."
)

func demoDocuments() map[string]document {
	return map[string]document{
		hashID("doc-", carol):  {carol},
		hashID("doc-", cities): {cities},
	}
}

func demoChunks() map[string]chunk {
	doc := hashID("doc-", carol)
	chunks := make(map[string]chunk)
	for i, text := range []string{carol[:32], carol[32:]} {
		chunks[hashID("chunk-", doc+"::"+text)] = chunk{len(text) / 4, text, i, doc}
	}
	return chunks
}

func demoReport() communityReport {
	return communityReport{
		ReportString:   "# Marley and Scrooge\n\nTwo partners, one of them dead.",
		ReportJSON:     json.RawMessage(`{"title":"Marley and Scrooge","summary":"Two partners, one of them dead.","rating":8.0,"findings":[]}`),
		Title:          "Cluster 0",
		Edges:          [][2]string{{"MARLEY", "SCROOGE"}},
		Nodes:          []string{"MARLEY", "SCROOGE"},
		ChunkIDs:       []string{},
		Occurrence:     1,
		SubCommunities: []string{},
	}
}

const (
	demoModelName = "gpt-4o-mini"
	demoQuestion  = "Who was dead?"
	demoRequest   = `{"model":"` + demoModelName + `","messages":[{"role":"user","content":"` + demoQuestion + `"}]}`
	demoReply     = `{"model":"` + demoModelName + `","choices":[{"index":0,"message":{"role":"assistant","content":"Marley — to begin with."},"finish_reason":"stop"}]}`
)

// A demoModel answers the one question that it is asked, without a network.
type demoModel struct{}

func (demoModel) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(demoReply)),
		Request:    r,
	}, r.Body.Close()
}
