package move

import (
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

// ImportPython stores the documents of an export in dst; nil: nowhere. Their
// times to live are those that dst gives by itself.
func ImportPython(ctx context.Context, r io.Reader, dst *Side, namespace string, mode ImportMode) (ImportReport, error) {
	p := &pythonImport{}
	if dst != nil && dst.Engine == nil {
		plain := *dst
		plain.Expirer = nil // By Upsert.
		dst = &plain
	}
	if dst != nil {
		p.ttl = dst.TTL
	}
	p.loader = newLoader(dst, namespace, mode)
	err := p.loader.check(ctx)
	if err == nil {
		err = p.run(ctx, r)
	}
	if err == nil {
		err = p.loader.flush(ctx)
	}
	if err == nil && mode == ImportReplace {
		err = p.loader.prune(ctx)
	}
	return p.loader.report, err
}

type pythonImport struct {
	loader *loader
	ttl    time.Duration // of what is stored
}

var (
	errNoID    = errors.New("its id is not in the export, and cannot be computed from the value")
	errBadName = errors.New("its id is too long to be read")
)

// run reads an object, which came from Redis, or an array, which came from
// files. A value that is laid out may have twice the bytes of one that is not.
func (p *pythonImport) run(ctx context.Context, r io.Reader) error {
	in := jsonscan.NewAnyReader(r, engine.MaxDepth).Bound(int(2*p.loader.max) + aroundValue)
	for place := 0; ; place++ {
		m, err := in.Next()
		open, array := in.Open()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, new(*jsonscan.Error)) && !open:
			return fmt.Errorf("%w: this is no export of nano-graphrag: %w", fault.ErrCorrupt, err)
		case errors.As(err, new(*jsonscan.Error)):
			return fmt.Errorf("%w: document %d of the export, counted from 0: %w", fault.ErrCorrupt, place, err)
		case err != nil:
			return fmt.Errorf("document %d of the export, counted from 0: %w", place, err)
		case array:
			err = p.element(ctx, place, m)
		default:
			err = p.member(ctx, place, m)
		}
		if err != nil {
			return err
		}
	}
}

// member takes a document of an export from Redis.
func (p *pythonImport) member(ctx context.Context, place int, m jsonscan.Member) error {
	switch long := errors.As(m.Err, new(*jsonscan.TooLongError)); {
	case m.Name == nil:
		p.loader.refuseUnnamed(place, errBadName)
	case long:
		p.loader.pass(place, string(m.Name), m.Err)
	case m.Err != nil:
		p.loader.refuse(place, string(m.Name), m.Err)
	default:
		return p.loader.put(ctx, place, p.item(string(m.Name), m.Value), 0)
	}
	return nil
}

// element takes a document of an export from files. null stands for one that
// was listed and then gone.
func (p *pythonImport) element(ctx context.Context, place int, m jsonscan.Member) error {
	if m.Err != nil {
		p.loader.refuseUnnamed(place, m.Err)
		return nil //nolint:nilerr // The rest goes.
	}
	if string(m.Value) == "null" {
		return nil
	}
	id, ok := pythonID(p.loader.report.Namespace, m.Value)
	if !ok {
		p.loader.refuseUnnamed(place, errNoID)
		return nil
	}
	return p.loader.put(ctx, place, p.item(id, m.Value), 0)
}

func (p *pythonImport) item(id string, value []byte) engine.Item {
	return engine.Item{ID: id, Value: jsonscan.AppendCompact(nil, value), TTL: p.ttl}
}

// pythonID computes the id of a document as nano-graphrag does. A chunk that
// does not name its document by doc_id is from an older version, whose chunk
// ids came from the content alone.
func pythonID(namespace string, value []byte) (string, bool) {
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
