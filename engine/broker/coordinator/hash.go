package coordinator

import "unicode/utf16"

// PartitionFor is the partition of an internal topic with count partitions that an id belongs to, for group ids and
// transactional ids alike: abs(String.hashCode(id)) mod count, as in Kafka, so that tools find what they look for. The
// hash is Java's, over UTF-16 units; the absolute value of the smallest int is 0 (Utils.abs). -1 for no partitions.
func PartitionFor(id string, count int32) int32 {
	if count <= 0 {
		return -1
	}
	var h int32
	for _, r := range id {
		if r < 0x10000 {
			h = 31*h + r
			continue
		}
		high, low := utf16.EncodeRune(r)
		h = 31*(31*h+high) + low
	}
	if h == -1<<31 {
		h = 0
	}
	return max(h, -h) % count
}
