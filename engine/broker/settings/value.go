package settings

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Auto is the value of settings that cairn chooses by the size of the cluster: min.insync.replicas,
// default.replication.factor. Kafka's tools are always shown the number that it comes to.
const Auto = "auto"

// Invalid is a value that was refused. Its text is Kafka's ConfigException's.
type Invalid struct {
	Name, Value, Reason string
	text                string
	config              bool
}

// Config reports whether Kafka's controller refuses a broker's setting (INVALID_CONFIG); otherwise its broker does, which
// calls everything an invalid request.
func (e *Invalid) Config() bool { return e.config }

// Error is Kafka's text.
func (e *Invalid) Error() string {
	if e.text != "" {
		return e.text
	}
	return fmt.Sprintf("Invalid value %s for configuration %s: %s", e.Value, e.Name, e.Reason)
}

func invalid(name, value, reason string) error {
	return &Invalid{Name: name, Value: value, Reason: reason}
}

// parsed is a value of a setting: one of the fields, by its type.
type parsed struct {
	null   bool
	text   string // String, Class, Password
	number int64  // Int, Short, Long
	real   float64
	truth  bool
	list   []string
}

// parse reads a value as Kafka does (ConfigDef.parseType): blanks around it do not count.
func (d *Definition) parse(value string) (parsed, error) {
	trimmed := strings.TrimSpace(value)
	notNumber := func() (parsed, error) {
		return parsed{}, invalid(d.Name, value, "Not a number of type "+d.Type.String())
	}
	switch d.Type {
	case Boolean:
		if !strings.EqualFold(trimmed, "true") && !strings.EqualFold(trimmed, "false") {
			return parsed{}, invalid(d.Name, value, "Expected value to be either true or false")
		}
		return parsed{truth: strings.EqualFold(trimmed, "true")}, nil
	case Int, Short, Long:
		bits := map[Type]int{Int: 32, Short: 16, Long: 64}[d.Type]
		n, err := strconv.ParseInt(trimmed, 10, bits)
		if err != nil {
			return notNumber()
		}
		return parsed{number: n}, nil
	case Double:
		f, err := strconv.ParseFloat(trimmed, 64)
		if err != nil || math.IsNaN(f) {
			return notNumber()
		}
		return parsed{real: f}, nil
	case List:
		if trimmed == "" {
			return parsed{}, nil
		}
		parts := strings.Split(trimmed, ",")
		list := make([]string, 0, len(parts))
		for _, p := range parts {
			p = strings.TrimSpace(p)
			if !slices.Contains(list, p) { // Kafka drops what is there twice (KIP-1161)
				list = append(list, p)
			}
		}
		return parsed{list: list}, nil
	}
	return parsed{text: trimmed}, nil
}

// format writes a value as Kafka's tools see it (ConfigDef.convertToString).
func (d *Definition) format(p parsed) string {
	switch d.Type {
	case Boolean:
		return strconv.FormatBool(p.truth)
	case Int, Short, Long:
		return strconv.FormatInt(p.number, 10)
	case Double:
		return formatDouble(p.real)
	case List:
		return strings.Join(p.list, ",")
	}
	return p.text
}

// formatDouble is Java's Double.toString: always with a fraction, powers of ten beyond 10^7 as 1.0E7.
func formatDouble(f float64) string {
	if a := math.Abs(f); a != 0 && (a >= 1e7 || a < 1e-3) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		n, _ := strconv.Atoi(exponent)
		return mantissa + "E" + strconv.Itoa(n)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// accept parses and validates a value, and gives it back as Kafka would show it.
func (d *Definition) accept(value string) (parsed, error) {
	p, err := d.parse(value)
	if err != nil {
		return p, err
	}
	if d.check != nil {
		if err := d.check(d, p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// validator refuses values of the right type that are out of bounds.
type validator func(d *Definition, p parsed) error

var rangePattern = regexp.MustCompile(`^\[(-?\d+),\.\.\.(?:,(-?\d+(?:\.\d+)?))?\]$`)

// parseValidator reads the text of a Kafka validator: [1,...], [0,...,1], [a, b], and the few with a form of their own.
func parseValidator(text string) validator {
	switch {
	case text == "" || text == "non-null string":
		return nil
	case text == "non-empty string":
		return func(d *Definition, p parsed) error {
			if p.text == "" {
				return invalid(d.Name, p.text, "String must be non-empty")
			}
			return nil
		}
	case text == "non-empty list":
		return nil // Kafka's default is empty, and cairn has no such setting that could be changed
	case text == "[1,...,9] or -1":
		return gzipLevel
	case strings.HasPrefix(text, "[partitionId]:"):
		return throttledReplicas
	case strings.HasPrefix(text, "(case insensitive) "):
		return oneOf(strings.TrimPrefix(text, "(case insensitive) "), strings.EqualFold, " (case insensitive)")
	}
	if m := rangePattern.FindStringSubmatch(text); m != nil {
		return inRange(m[1], m[2])
	}
	if strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		return oneOf(text, func(a, b string) bool { return a == b }, "")
	}
	panic("settings: validator " + text)
}

func inRange(minText, maxText string) validator {
	low, err := strconv.ParseFloat(minText, 64)
	high := math.Inf(1)
	if err == nil && maxText != "" {
		high, err = strconv.ParseFloat(maxText, 64)
	}
	if err != nil {
		panic("settings: range " + minText + " to " + maxText)
	}
	return func(d *Definition, p parsed) error {
		v := p.real
		if d.Type != Double {
			v = float64(p.number)
		}
		if v < low {
			return invalid(d.Name, d.format(p), "Value must be at least "+minText)
		}
		if v > high {
			return invalid(d.Name, d.format(p), "Value must be no more than "+maxText)
		}
		return nil
	}
}

func oneOf(text string, same func(a, b string) bool, remark string) validator {
	valid := strings.Split(strings.Trim(text, "[]"), ", ")
	return func(d *Definition, p parsed) error {
		values := p.list
		if d.Type != List {
			values = []string{p.text}
		}
		for _, v := range values {
			if v == "" && d.Type == List {
				return &Invalid{Name: d.Name, text: fmt.Sprintf("Configuration '%s' values must not be empty.", d.Name)}
			}
			if !slices.ContainsFunc(valid, func(w string) bool { return same(v, w) }) {
				return invalid(d.Name, v, "String must be one of"+remark+": "+strings.Join(valid, ", "))
			}
		}
		return nil
	}
}

func gzipLevel(d *Definition, p parsed) error {
	if p.number != -1 && (p.number < 1 || p.number > 9) {
		return invalid(d.Name, d.format(p), "Value must be between 1 and 9 or equal to -1")
	}
	return nil
}

var throttledPattern = regexp.MustCompile(`^[0-9]+:[0-9]+$`)

func throttledReplicas(d *Definition, p parsed) error {
	if len(p.list) == 1 && strings.TrimSpace(p.list[0]) == "*" {
		return nil
	}
	for _, v := range p.list {
		if !throttledPattern.MatchString(v) {
			return invalid(d.Name, "["+strings.Join(p.list, ", ")+"]", d.Name+" must be the literal '*' or a list of replicas "+
				"in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

// milliseconds makes a duration; what a Duration cannot hold (292 years) becomes the longest one.
func milliseconds(ms int64) time.Duration {
	if ms > math.MaxInt64/int64(time.Millisecond) {
		return math.MaxInt64
	}
	if ms < 0 {
		return -1
	}
	return time.Duration(ms) * time.Millisecond
}
