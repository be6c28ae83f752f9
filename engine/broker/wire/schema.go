package wire

//go:generate go run schemagen.go

// Schema is the layout of one API's requests at every version.
type Schema struct {
	Key int16
	// MaxVersion is the newest version that the schema, and kmsg, knows.
	MaxVersion int16
	// FirstFlexible is the first version with compact lengths and tags (KIP-482); 127 for none.
	FirstFlexible int16

	body record
}

// Flexible reports whether requests of that version have tags, in the header too.
func (s *Schema) Flexible(version int16) bool { return version >= s.FirstFlexible }

// SchemaOf returns the layout of an API's requests, nil for a key that no client sends.
func SchemaOf(key int16) *Schema {
	if key < 0 || int(key) >= len(schemas) {
		return nil
	}
	return schemas[key]
}

// kind is the shape of a field on the wire.
type kind uint8

const (
	kindFixed          kind = iota // size bytes
	kindString                     // int16 or compact length
	kindBytes                      // int32 or compact length
	kindArray                      // int32 or compact count of elements
	kindRecord                     // fields, then tags
	kindNullableRecord             // an int8 that is -1 for null, then fields, then tags
)

// record is a sequence of fields, followed by tags in flexible versions.
type record struct {
	fields []field
	tags   []tag
}

// tag is a tag that kmsg decodes; it skips the others.
type tag struct {
	key   uint32
	field field
}

// field is one field and the versions that have it.
type field struct {
	kind     kind
	min, max int8
	// nullableFrom is the first version in which a string may be null.
	nullableFrom int8
	// size is, for kindFixed, the bytes on the wire; for kindArray, the bytes of one decoded element; for kindNullableRecord and
	// for strings held by pointer, the bytes that are allocated for it.
	size    uint16
	element *field  // kindArray
	record  *record // kindRecord, kindNullableRecord
}
