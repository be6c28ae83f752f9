package zoocfg

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// fileBytesMax bounds a configuration file; a larger one is a mistaken name, not a configuration.
const fileBytesMax = 1 << 20

// Properties are Java properties by name: those of a file, or the system properties of a JVM.
type Properties map[string]string

// parseProperties reads Java's properties syntax (java.util.Properties.load of a byte stream): the bytes are ISO-8859-1;
// a line whose first visible character is '#' or '!' is a comment; a line that ends in an odd number of backslashes goes on
// in the next one; the key ends at the first unescaped '=', ':' or white space; \t \n \r \f and \uXXXX are escapes. The
// last of several equal keys wins.
func parseProperties(text []byte) (Properties, error) {
	if len(text) > fileBytesMax {
		return nil, fmt.Errorf("%d bytes are more than the %d that a configuration may have", len(text), fileBytesMax)
	}
	p := Properties{}
	for len(text) > 0 {
		var line []byte
		line, text = logicalLine(text)
		if len(line) == 0 {
			continue
		}
		key, value := splitPair(line)
		k, err := unescape(key)
		if err != nil {
			return nil, err
		}
		v, err := unescape(value)
		if err != nil {
			return nil, err
		}
		p[k] = v
	}
	return p, nil
}

// logicalLine takes one line with its continuations. Comments and blank lines come back empty.
func logicalLine(text []byte) (line, rest []byte) {
	first := true
	for {
		var natural []byte
		natural, text = naturalLine(text)
		natural = trimLeft(natural)
		if first && len(natural) > 0 && (natural[0] == '#' || natural[0] == '!') {
			return nil, text
		}
		if first && len(natural) == 0 {
			return nil, text
		}
		first = false
		if !endsInOddBackslashes(natural) {
			return append(line, natural...), text
		}
		line = append(line, natural[:len(natural)-1]...)
		if len(text) == 0 {
			return line, nil
		}
	}
}

func naturalLine(text []byte) (line, rest []byte) {
	for i, c := range text {
		if c != '\n' && c != '\r' {
			continue
		}
		next := i + 1
		if c == '\r' && next < len(text) && text[next] == '\n' {
			next++
		}
		return text[:i], text[next:]
	}
	return text, nil
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && isBlank(b[0]) {
		b = b[1:]
	}
	return b
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }

func endsInOddBackslashes(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\\' {
		n++
	}
	return n%2 == 1
}

// splitPair cuts a logical line into its still escaped key and value.
func splitPair(line []byte) (key, value []byte) {
	end := len(line)
	for i := 0; i < len(line); i++ {
		if line[i] == '\\' {
			i++
			continue
		}
		if line[i] == '=' || line[i] == ':' || isBlank(line[i]) {
			end = i
			break
		}
	}
	value = trimLeft(line[end:])
	if len(value) > 0 && (value[0] == '=' || value[0] == ':') {
		value = trimLeft(value[1:])
	}
	return line[:end], value
}

func unescape(b []byte) (string, error) {
	var s strings.Builder
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '\\' || i+1 == len(b) {
			if c != '\\' {
				s.WriteRune(rune(c)) // ISO-8859-1: the byte is the code point
			}
			continue
		}
		i++
		switch b[i] {
		case 't':
			s.WriteByte('\t')
		case 'n':
			s.WriteByte('\n')
		case 'r':
			s.WriteByte('\r')
		case 'f':
			s.WriteByte('\f')
		case 'u':
			if i+4 >= len(b) {
				return "", fmt.Errorf(`Malformed \uxxxx encoding.`) //nolint:staticcheck // Java's message
			}
			r, err := strconv.ParseUint(string(b[i+1:i+5]), 16, 16)
			if err != nil {
				return "", fmt.Errorf(`Malformed \uxxxx encoding.`) //nolint:staticcheck // Java's message
			}
			s.WriteRune(rune(r))
			i += 4
		default:
			s.WriteRune(rune(b[i]))
		}
	}
	return s.String(), nil
}

// jvmFlags adds the -D keys of one flag string to p. The string is split at white space alone, as zkServer.sh does by
// leaving the variable unquoted. Other flags of a JVM (-Xmx…) mean nothing here.
func (p Properties) jvmFlags(flags string) {
	for _, f := range strings.Fields(flags) {
		if pair, ok := strings.CutPrefix(f, "-D"); ok && pair != "" {
			key, value, _ := strings.Cut(pair, "=")
			p[key] = value
		}
	}
}

// Bool is Java's Boolean.parseBoolean: true for "true" in any case, fallback when the key is absent.
func (p Properties) Bool(key string, fallback bool) bool {
	v, ok := p[key]
	if !ok {
		return fallback
	}
	return strings.EqualFold(v, "true")
}

// Int is Java's Integer.getInteger: decimal, 0x or # hexadecimal, or octal; fallback when the key is absent or no number.
func (p Properties) Int(key string, fallback int) int {
	v, ok := p[key]
	if !ok {
		return fallback
	}
	if hex, ok := strings.CutPrefix(v, "#"); ok {
		v = "0x" + hex
	}
	if strings.ContainsAny(v, "_oObB") && !strings.HasPrefix(strings.ToLower(strings.TrimLeft(v, "+-")), "0x") {
		return fallback
	}
	n, err := strconv.ParseInt(v, 0, 32)
	if err != nil {
		return fallback
	}
	return int(n)
}

// Float is Java's Double.parseDouble of a finite number, or fallback.
func (p Properties) Float(key string, fallback float64) float64 {
	f, err := strconv.ParseFloat(strings.TrimSpace(p[key]), 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return fallback
	}
	return f
}

// String is the property, or fallback when it is absent.
func (p Properties) String(key, fallback string) string {
	if v, ok := p[key]; ok {
		return v
	}
	return fallback
}
