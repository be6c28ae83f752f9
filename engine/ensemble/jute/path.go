package jute

import "strings"

// ValidPath tells whether a path may be written to (PathUtils.validatePath): it starts with a slash, does not end with
// one unless it is the root, has no empty, "." or ".." component, and none of the characters that ZooKeeper refuses
// (control characters, surrogates and private use, U+FFF0 to U+FFFF; what is not UTF-8 reads as U+FFFD, which is one
// of these, and what lies beyond U+FFFF is a surrogate pair in Java). Reads are not validated: they find no node.
func ValidPath(path string) bool {
	if path == "" || path[0] != '/' {
		return false
	}
	if len(path) == 1 {
		return true
	}
	if path[len(path)-1] == '/' {
		return false
	}
	start := 1 // of the present component
	for i, c := range path {
		if i == 0 {
			continue
		}
		switch {
		case c == '/':
			if relative(path[start:i]) {
				return false
			}
			start = i + 1
		case c <= 0x1f, c >= 0x7f && c <= 0x9f, c >= 0xd800 && c <= 0xf8ff, c >= 0xfff0:
			return false
		}
	}
	return !relative(path[start:])
}

// relative tells whether a component is one that a path may not have.
func relative(component string) bool { return component == "" || component == "." || component == ".." }

// SplitPath cuts a path at its last slash; the parent of a child of the root is "" (an alias of "/"). ok is false when
// there is no slash, which no path of a node lacks.
func SplitPath(path string) (parent, name string, ok bool) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", "", false
	}
	return path[:i], path[i+1:], true
}
