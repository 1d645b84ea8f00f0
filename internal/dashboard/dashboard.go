// Package dashboard is the dashboard that monitoring/grafana has for Grafana:
// what it asks, and its JSON.
package dashboard

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

var prometheus = source{"prometheus", "${datasource}"}

type place struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type panel struct {
	ID          int       `json:"id"`
	Type        string    `json:"type"`
	Title       string    `json:"title"`
	Description string    `json:"description,omitempty"`
	Datasource  *source   `json:"datasource,omitempty"`
	GridPos     place     `json:"gridPos"`
	FieldConfig *fields   `json:"fieldConfig,omitempty"`
	Options     *options  `json:"options,omitempty"`
	Targets     []target  `json:"targets,omitempty"`
	Collapsed   *bool     `json:"collapsed,omitempty"`
	Panels      *[]string `json:"panels,omitempty"` // of a row; always empty
}

type target struct {
	RefID        string `json:"refId"`
	Datasource   source `json:"datasource"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

type fields struct {
	Defaults  defaults   `json:"defaults"`
	Overrides []struct{} `json:"overrides"`
}

type defaults struct {
	Unit       string      `json:"unit,omitempty"`
	Min        *float64    `json:"min,omitempty"`
	Mappings   []mapping   `json:"mappings"`
	Thresholds *thresholds `json:"thresholds,omitempty"`
}

type mapping struct {
	Type    string          `json:"type"`
	Options map[string]word `json:"options"`
}

type word struct {
	Text string `json:"text"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"` // null: from the bottom
}

type options struct {
	ColorMode     string         `json:"colorMode,omitempty"`
	ReduceOptions *reduceOptions `json:"reduceOptions,omitempty"`
	Legend        *legend        `json:"legend,omitempty"`
	Tooltip       *tooltip       `json:"tooltip,omitempty"`
}

type reduceOptions struct {
	Calcs []string `json:"calcs"`
}

type legend struct {
	DisplayMode string `json:"displayMode"`
	Placement   string `json:"placement"`
	ShowLegend  bool   `json:"showLegend"`
}

type tooltip struct {
	Mode string `json:"mode"`
	Sort string `json:"sort"`
}

type variable struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Query      string  `json:"query"`
	Datasource *source `json:"datasource,omitempty"`
	Refresh    int     `json:"refresh"`
	IncludeAll bool    `json:"includeAll"`
	AllValue   string  `json:"allValue,omitempty"`
	Multi      bool    `json:"multi"`
	Sort       int     `json:"sort"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type board struct {
	UID           string    `json:"uid"`
	Title         string    `json:"title"`
	Tags          []string  `json:"tags"`
	Timezone      string    `json:"timezone"`
	SchemaVersion int       `json:"schemaVersion"`
	Editable      bool      `json:"editable"`
	GraphTooltip  int       `json:"graphTooltip"` // 1: all panels show the same moment
	Refresh       string    `json:"refresh"`
	Time          timeRange `json:"time"`
	Templating    struct {
		List []variable `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

// JSON returns the dashboard as Grafana reads it.
func JSON() ([]byte, error) {
	b := board{
		UID: "kv", Title: "kv", Tags: []string{"kv"}, Timezone: "browser", SchemaVersion: 39,
		Editable: true, GraphTooltip: 1, Refresh: "10s", Time: timeRange{"now-1h", "now"},
	}
	b.Templating.List = []variable{
		{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Refresh: 1},
		choice("instance", "Service"),
		choice("namespace", "Namespace"),
	}
	const width, statHeight, graphHeight = 24, 5, 8
	y := 0
	for _, row := range Rows() {
		b.Panels = append(b.Panels, panel{ID: len(b.Panels) + 1, Type: "row", Title: row.Title,
			GridPos: place{1, width, 0, y}, Collapsed: new(bool), Panels: &[]string{}})
		y++
		for _, kind := range []Kind{Stat, Graph} {
			line := slices.DeleteFunc(slices.Clone(row.Panels), func(p Panel) bool { return p.Kind != kind })
			across, height := min(4, max(1, len(line))), statHeight
			if kind == Graph {
				across, height = min(3, max(1, len(line))), graphHeight
				if len(line)%2 == 0 {
					across = 2
				}
			}
			for i, p := range line {
				at := place{height, width / across, width / across * (i % across), y + height*(i/across)}
				b.Panels = append(b.Panels, p.draw(len(b.Panels)+1, at))
			}
			y += height * ((len(line) + across - 1) / across)
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(b)
	return out.Bytes(), err
}

func choice(label, title string) variable {
	return variable{Name: label, Label: title, Type: "query", Query: "label_values(kv_operations_total, " + label + ")",
		Datasource: &prometheus, Refresh: 2, IncludeAll: true, AllValue: ".*", Multi: true, Sort: 1}
}

func (p Panel) draw(id int, at place) panel {
	out := panel{ID: id, Type: string(p.Kind), Title: p.Title, Description: p.Help, Datasource: &prometheus, GridPos: at,
		FieldConfig: &fields{Defaults: defaults{Unit: p.Unit, Mappings: []mapping{}}, Overrides: []struct{}{}}}
	for i, q := range p.Queries {
		out.Targets = append(out.Targets, target{string(rune('A' + i)), prometheus, q.Expr, q.Legend})
	}
	d := &out.FieldConfig.Defaults
	if len(p.Words) > 0 {
		words := make(map[string]word)
		for _, value := range slices.Sorted(maps.Keys(p.Words)) {
			words[strconv.Itoa(value)] = word{p.Words[value]}
		}
		d.Mappings = append(d.Mappings, mapping{"value", words})
	}
	below, above := "green", "red"
	if p.BadLow {
		below, above = above, below
	}
	if p.Bad != 0 {
		d.Thresholds = &thresholds{"absolute", []step{{below, nil}, {above, &p.Bad}}}
	} else {
		d.Thresholds = &thresholds{"absolute", []step{{"green", nil}}}
	}
	if p.Kind == Stat {
		out.Options = &options{ColorMode: "value", ReduceOptions: &reduceOptions{[]string{"lastNotNull"}}}
		return out
	}
	d.Min = new(float64)
	out.Options = &options{Legend: &legend{"list", "bottom", true}, Tooltip: &tooltip{"multi", "desc"}}
	return out
}
