package main

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
)

// The shapes that nano-graphrag keeps in its four namespaces.

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

type cachedAnswer struct {
	Return string `json:"return"`
	Model  string `json:"model"`
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

// demoQuestion is str((model, messages)) as Python writes it: the md5 of it
// is the id of the answer.
const demoQuestion = "('gpt-4o-mini', [{'role': 'user', 'content': 'Who was dead?'}])"

func demoAnswer() cachedAnswer {
	return cachedAnswer{Return: "Marley — to begin with.", Model: "gpt-4o-mini"}
}
