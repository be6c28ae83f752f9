package zoocfg

import (
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// script is one case of testdata/configs.txt.
type script struct {
	name  string
	files map[string]string
	flags string
	want  []string
	err   string
}

func readScripts(t *testing.T) []script {
	t.Helper()
	text, err := os.ReadFile("testdata/configs.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []script
	for _, part := range strings.Split(string(text), "\ncase ")[1:] {
		name, rest, _ := strings.Cut(part, "\n")
		s := script{name: name, files: map[string]string{}}
		for _, section := range strings.Split("\n"+rest, "\n--- ")[1:] {
			head, body, _ := strings.Cut(section, "\n")
			kind, arg, _ := strings.Cut(head, " ")
			switch kind {
			case "file":
				s.files[arg] = body
			case "flags":
				s.flags = body
			case "want":
				for _, line := range strings.Split(body, "\n") {
					if strings.TrimSpace(line) != "" {
						s.want = append(s.want, line)
					}
				}
			case "error":
				s.err = strings.TrimSpace(body)
			default:
				t.Fatalf("%s: section %q", name, head)
			}
		}
		all = append(all, s)
	}
	return all
}

func TestScripts(t *testing.T) {
	for _, s := range readScripts(t) {
		t.Run(s.name, func(t *testing.T) {
			c, err := Load(Source{File: "zoo.cfg", JVMFlags: []string{s.flags}, ReadFile: s.read})
			if s.err != "" {
				if err == nil || !strings.Contains(err.Error(), s.err) {
					t.Fatalf("error %v, want one with %q", err, s.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range s.want {
				field, want, _ := strings.Cut(line, " ")
				v := reflect.ValueOf(*c).FieldByName(field)
				if !v.IsValid() {
					t.Fatalf("no field %s", field)
				}
				if got := fmt.Sprint(v.Interface()); got != want {
					t.Errorf("%s = %q, want %q", field, got, want)
				}
			}
		})
	}
}

func (s script) read(name string) ([]byte, error) {
	text, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

// TestPropertiesRoundTrip writes keys and values with everything escaped that needs it and reads them back.
func TestPropertiesRoundTrip(t *testing.T) {
	escape := func(s string) string {
		var b strings.Builder
		for _, r := range s {
			if r < 0x20 || r > 0x7e {
				fmt.Fprintf(&b, `\u%04x`, r)
				continue
			}
			if strings.ContainsRune(`\ =:#!`, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		return b.String()
	}
	word := rapid.StringOf(rapid.RuneFrom([]rune("ab =:#!\\\t\n\ré\u4e2d.")))
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(word, word).Draw(t, "properties")
		separator := rapid.SampledFrom([]string{"=", ":", " = ", "\t:"}).Draw(t, "separator")
		ending := rapid.SampledFrom([]string{"\n", "\r\n", "\r", " \\\n", "\n# c\n"}).Draw(t, "ending")
		var text strings.Builder
		for k, v := range want {
			text.WriteString(escape(k) + separator + escape(v))
			if ending == " \\\n" {
				text.WriteString("\n\n")
			} else {
				text.WriteString(ending)
			}
		}
		got, err := parseProperties([]byte(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("%q became %q", want, got)
		}
		for k, v := range want {
			if got[k] != v {
				t.Fatalf("%q: %q, want %q", k, got[k], v)
			}
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("dataDir=/d\nclientPort=2181\nserver.1=a:1:2;3\n"), "-Dzookeeper.skipACL=yes")
	f.Add([]byte("a\\\n"), "-D")
	f.Fuzz(func(t *testing.T, text []byte, flags string) {
		c, err := Load(Source{File: "zoo.cfg", JVMFlags: []string{flags}, ReadFile: func(name string) ([]byte, error) {
			if name == "zoo.cfg" {
				return text, nil
			}
			return nil, fs.ErrNotExist
		}})
		if err == nil && (c.TickTime <= 0 || c.DataDir == "" || len(c.Servers) > 1) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
