package kv

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/ngraf/kv/internal/jsonscan"
)

// A PythonReport says what became of an export of nano-graphrag.
type PythonReport struct {
	ImportReport
	Refused      []string `json:"refused"`      // ids whose value is not JSON
	Unidentified []int    `json:"unidentified"` // places, from 0, of array elements whose id cannot be computed
}

// ImportPython stores the documents of an export of one namespace that
// nano-graphrag's backup wrote (kv/<namespace>.json in an .ngbak archive).
//
// Exports from Redis are an object, id to value. Exports from JSON files are
// an array without ids; there the namespace tells how the original computes
// them: of full_docs and text_chunks from the content, of community_reports
// from the title. Those of other namespaces, of the LLM cache above all,
// cannot be had from the value; such elements are reported and left out.
// Times to live are not in these exports: every document gets that of its
// namespace, as with Upsert. If dst is nil and mode is ImportMerge, nothing is
// stored, and the report says what there is.
//
// Format: nano_graphrag/backup/exporters/kv_exporter.py.
func ImportPython(ctx context.Context, r io.Reader, dst Store, namespace string, mode ImportMode) (PythonReport, error) {
	p := &pythonImport{
		loader: loader{store: dst, mode: mode, report: ImportReport{Namespace: namespace}},
		report: PythonReport{Refused: []string{}, Unidentified: []int{}},
	}
	err := p.loader.check(ctx)
	if err == nil {
		err = p.run(ctx, bufio.NewReaderSize(r, 256<<10))
	}
	if err == nil {
		err = p.loader.flush(ctx)
	}
	if err == nil && mode == ImportReplace {
		err = p.loader.prune(ctx)
	}
	p.report.ImportReport = p.loader.report
	return p.report, opError("import", namespace, err)
}

type pythonImport struct {
	loader loader
	report PythonReport
}

func (p *pythonImport) run(ctx context.Context, in *bufio.Reader) error {
	for {
		c, err := in.ReadByte()
		if err != nil {
			return fmt.Errorf("%w: this is no export of nano-graphrag: %w", ErrCorrupt, err)
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '[':
			_ = in.UnreadByte() // Follows a ReadByte.
			return p.array(ctx, json.NewDecoder(in))
		default:
			_ = in.UnreadByte()
			return p.object(ctx, jsonscan.NewReader(in, maxDepth))
		}
	}
}

// object reads what came from Redis.
func (p *pythonImport) object(ctx context.Context, in *jsonscan.Reader) error {
	for {
		m, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return notJSON(ErrCorrupt, err)
		case m.Err != nil:
			p.report.Refused = append(p.report.Refused, string(m.Name))
			continue
		}
		if err := p.loader.put(ctx, p.item(string(m.Name), m.Value), 0); err != nil {
			return err
		}
	}
}

func (p *pythonImport) item(id string, value []byte) item {
	it := item{id: id, value: jsonscan.AppendCompact(nil, value)}
	if own, ok := p.loader.store.(*store); ok {
		it.ttl = own.ttl
	}
	return it
}

// array reads what came from files. null stands for a document that was
// listed and then gone.
func (p *pythonImport) array(ctx context.Context, in *json.Decoder) error {
	if _, err := in.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, &veiled{"the export is not JSON", err})
	}
	for place := 0; in.More(); place++ {
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, &veiled{fmt.Sprintf("element %d of the export is not JSON", place), err})
		}
		if string(value) == "null" {
			continue
		}
		id, ok := pythonID(p.loader.report.Namespace, value)
		if !ok {
			p.report.Unidentified = append(p.report.Unidentified, place)
			continue
		}
		if err := p.loader.put(ctx, p.item(id, value), 0); err != nil {
			return err
		}
	}
	if _, err := in.Token(); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, &veiled{"the export ends within its array", err})
	}
	return nil
}

// pythonID computes the id of a document as nano-graphrag does. A chunk that
// does not name its document by doc_id is from an older version, whose chunk
// ids came from the content alone.
func pythonID(namespace string, value json.RawMessage) (string, bool) {
	var v struct {
		Content *string `json:"content"`
		DocID   *string `json:"doc_id"`
		Title   string  `json:"title"`
	}
	if json.Unmarshal(value, &v) != nil {
		return "", false
	}
	switch {
	case namespace == "full_docs" && v.Content != nil:
		return "doc-" + md5Hex(*v.Content), true
	case namespace == "text_chunks" && v.Content != nil && v.DocID != nil:
		return "chunk-" + md5Hex(*v.DocID+"::"+*v.Content), true
	case namespace == "text_chunks" && v.Content != nil:
		return "chunk-" + md5Hex(*v.Content), true
	case namespace == "community_reports":
		var number uint64
		_, err := fmt.Sscanf(v.Title, "Cluster %d", &number)
		id := fmt.Sprint(number)
		return id, err == nil && v.Title == "Cluster "+id
	}
	return "", false
}

func md5Hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}
