package move

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ngraf/kv/internal/engine"
	"github.com/ngraf/kv/internal/fault"
	"github.com/ngraf/kv/internal/jsonscan"
)

// A PythonReport is kv.PythonReport.
type PythonReport struct {
	ImportReport
	Refused      []string
	Unidentified []int
}

// ImportPython stores the documents of an export in dst; nil: nowhere.
func ImportPython(ctx context.Context, r io.Reader, dst *Side, namespace string, mode ImportMode) (PythonReport, error) {
	p := &pythonImport{
		loader: newLoader(dst, namespace, mode),
		report: PythonReport{Refused: []string{}, Unidentified: []int{}},
	}
	if dst != nil {
		p.ttl = dst.TTL
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
	return p.report, err
}

type pythonImport struct {
	loader *loader
	ttl    time.Duration // of what is stored
	report PythonReport
}

func (p *pythonImport) run(ctx context.Context, in *bufio.Reader) error {
	for {
		c, err := in.ReadByte()
		if err != nil {
			return fmt.Errorf("%w: this is no export of nano-graphrag: %w", fault.ErrCorrupt, err)
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			continue
		case '[':
			_ = in.UnreadByte() // Follows a ReadByte.
			return p.array(ctx, json.NewDecoder(in))
		default:
			_ = in.UnreadByte()
			return p.object(ctx, jsonscan.NewReader(in, engine.MaxDepth))
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
			return fault.NotJSON(fault.ErrCorrupt, err)
		case m.Err != nil:
			p.report.Refused = append(p.report.Refused, string(m.Name))
			continue
		}
		if err := p.loader.put(ctx, p.item(string(m.Name), m.Value), 0); err != nil {
			return err
		}
	}
}

func (p *pythonImport) item(id string, value []byte) engine.Item {
	return engine.Item{ID: id, Value: jsonscan.AppendCompact(nil, value), TTL: p.ttl}
}

// array reads what came from files. null stands for a document that was
// listed and then gone.
func (p *pythonImport) array(ctx context.Context, in *json.Decoder) error {
	if _, err := in.Token(); err != nil {
		return fmt.Errorf("%w: %w", fault.ErrCorrupt, fault.Veil("the export is not JSON", err))
	}
	for place := 0; in.More(); place++ {
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return fmt.Errorf("%w: %w", fault.ErrCorrupt, fault.Veil(fmt.Sprintf("element %d of the export is not JSON", place), err))
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
		return fmt.Errorf("%w: %w", fault.ErrCorrupt, fault.Veil("the export ends within its array", err))
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
