package settings

// note is what cairn says about a setting: what it does here, and its documentation. A setting without a note has no
// effect.
type note struct {
	effect Effect
	doc    string
}

// cairnTopicTable are the topic settings of our own, in the format of Kafka's table.
const cairnTopicTable = `cairn.durability	STRING	flushed	[flushed, replicated]	
cairn.full	STRING	trim	[trim, refuse]	
cairn.validate.compressed	BOOLEAN	false		
`

// cairnBrokerTable are the broker settings that Kafka 4 does not have any more and tools still look for, and our own.
const cairnBrokerTable = `cairn.rebalance.away.ms	LONG	600000	[1,...]	cluster-wide
leader.imbalance.per.broker.percentage	INT	10		read-only
leader.replication.throttled.rate	LONG	9223372036854775807	[0,...]	cluster-wide
follower.replication.throttled.rate	LONG	9223372036854775807	[0,...]	cluster-wide
inter.broker.protocol.version	STRING	4.0-IV3		read-only
log.message.format.version	STRING	3.0-IV1		read-only
`

var topicNotes = map[string]note{
	"cairn.durability":                        {Effective, "What an acknowledgement promises. flushed: the record is on stable storage of the leader, and with acks=all of every in-sync replica. replicated: Kafka's own rule, the page cache; a power cut may take acknowledged records."},
	"cairn.full":                              {Effective, "What happens when the log directory's budget is used up. trim: the oldest segments of topics with cleanup.policy=delete are removed, counted and alarmed. refuse: writes to this topic are refused."},
	"cairn.validate.compressed":               {Effective, "Whether compressed batches are opened to check every record. By default they are stored as they came, after their checksum and header were checked."},
	"cleanup.policy":                          {Effective, "delete removes old segments by time and size. compact keeps the latest record of each key, and refuses records without a key; neither time, size nor the disk budget removes any of it. Both do both."},
	"compression.type":                        {NoEffect, "cairn always stores a batch as its producer compressed it, which is what producer means. Another value is kept and has no effect."},
	"delete.retention.ms":                     {Effective, "How long markers of deletion are kept in a compacted topic after they were first compacted, in milliseconds. It waits until the clock is known to be good."},
	"file.delete.delay.ms":                    {Effective, "How long a removed segment stays on disk before it is unlinked, in milliseconds."},
	"follower.replication.throttled.replicas": {Effective, "Which replicas copy no faster than their broker's follower.replication.throttled.rate while they are not in sync: partition:broker, or * for all."},
	"leader.replication.throttled.replicas":   {Effective, "Which replicas are copied no faster than their broker's leader.replication.throttled.rate by followers that are not in sync: partition:broker, or * for all."},
	"flush.messages":                          {Conditional, "With cairn.durability=flushed every acknowledged record is on stable storage, which is stronger than any value. On a topic with cairn.durability=replicated any value but the default is refused, because it would not be kept."},
	"flush.ms":                                {Conditional, "With cairn.durability=flushed every acknowledged record is on stable storage, which is stronger than any value. On a topic with cairn.durability=replicated any value but the default is refused, because it would not be kept."},
	"index.interval.bytes":                    {Effective, "How much log lies between two entries of the offset index, in bytes."},
	"max.compaction.lag.ms":                   {Effective, "The longest time that a record stays uncompacted, in milliseconds. A segment is closed after that time at the latest. It waits until the clock is known to be good."},
	"max.message.bytes":                       {Effective, "The largest batch that is taken, compressed if its producer compressed it, in bytes."},
	"message.timestamp.after.max.ms":          {Effective, "How far in the future a record's timestamp may lie with CreateTime, in milliseconds."},
	"message.timestamp.before.max.ms":         {Effective, "How far in the past a record's timestamp may lie with CreateTime, in milliseconds."},
	"message.timestamp.type":                  {Effective, "CreateTime keeps the producer's timestamps; LogAppendTime stamps the time of the append."},
	"min.cleanable.dirty.ratio":               {Effective, "How much of a compacted log is dirty before it is compacted, from 0 to 1: less keeps the log smaller and writes more to the disk."},
	"min.compaction.lag.ms":                   {Effective, "The shortest time that a record stays uncompacted, in milliseconds. It waits until the clock is known to be good."},
	"min.insync.replicas":                     {Effective, "How many in-sync replicas a write with acks=all needs. auto, the default, is 1 for one or two replicas and 2 for three and more; tools are shown the number that it comes to."},
	"preallocate":                             {NoEffect, "cairn always preallocates active segments in steps, and cuts them when they are closed."},
	"retention.bytes":                         {Effective, "How much of a partition is kept with cleanup.policy=delete, in bytes; -1 means that size removes nothing. The disk budget holds always."},
	"retention.ms":                            {Effective, "How long records are kept with cleanup.policy=delete, in milliseconds; -1 means that time removes nothing. It waits until the clock is known to be good."},
	"segment.bytes":                           {Effective, "The size of a segment file, in bytes."},
	"segment.index.bytes":                     {Effective, "The largest size of an offset index, in bytes; a full one begins a new segment."},
	"segment.jitter.ms":                       {Effective, "By how much segments roll earlier than segment.ms, at random, in milliseconds."},
	"segment.ms":                              {Effective, "After what time a segment is closed though it is not full, in milliseconds."},
	"unclean.leader.election.enable":          {Effective, "Whether a replica outside the in-sync set may lead when no other is left. It loses acknowledged records."},
}

var brokerNotes = map[string]note{
	"advertised.listeners":                     {Effective, "Where clients are told to connect to. Without it they are told the address that they came in on."},
	"auto.create.topics.enable":                {Effective, "Whether a topic that a client asks for is created."},
	"auto.leader.rebalance.enable":             {Effective, "Whether leadership returns to preferred replicas by itself, where they are in sync."},
	"broker.id":                                {Effective, "The number of this broker."},
	"broker.rack":                              {Effective, "Where this broker stands."},
	"replica.selector.class":                   {Effective, "Which replica consumers read from: " + RackAwareSelector + " sends those that name their rack to an in-sync replica in it. Without it they read from the leader."},
	"cairn.rebalance.away.ms":                  {Effective, "How long a box stays away before the replicas on it are made anew on others, in milliseconds, of topics whose replication factor was left to cairn. The controller that counts begins anew when another box becomes it."},
	"compression.type":                         {NoEffect, "cairn always stores a batch as its producer compressed it, which is what producer means."},
	"connections.max.idle.ms":                  {Effective, "After what time an idle connection is closed, in milliseconds."},
	"default.replication.factor":               {Effective, "How many replicas a topic gets when nobody says. auto, the default, is the number of brokers, at most three; tools are shown the number that it comes to."},
	"delete.topic.enable":                      {Effective, "Whether topics can be deleted."},
	"fetch.max.bytes":                          {Effective, "The most that one Fetch answers, in bytes."},
	"follower.replication.throttled.rate":      {Effective, "How many bytes a second this broker copies at most into replicas that follower.replication.throttled.replicas names and that are not in sync."},
	"leader.replication.throttled.rate":        {Effective, "How many bytes a second this broker gives at most to followers that are not in sync, of replicas that leader.replication.throttled.replicas names."},
	"group.initial.rebalance.delay.ms":         {Effective, "How long an empty group waits for more members before its first rebalance, in milliseconds."},
	"group.max.session.timeout.ms":             {Effective, "The longest session timeout that a group member may ask for, in milliseconds."},
	"group.max.size":                           {Effective, "How many members a group may have."},
	"group.min.session.timeout.ms":             {Effective, "The shortest session timeout that a group member may ask for, in milliseconds."},
	"inter.broker.protocol.version":            {NoEffect, "The level of Kafka's features that this broker stands for. Tools conclude from it what they may ask."},
	"log.message.format.version":               {NoEffect, "Batches are stored in format 2, which every client since Kafka 0.11 writes."},
	"leader.imbalance.check.interval.seconds":  {Effective, "How often the controller looks whether leadership should return to preferred replicas, in seconds."},
	"leader.imbalance.per.broker.percentage":   {Effective, "How many of the partitions that a broker should lead others may lead, in percent, before they are given back."},
	"listeners":                                {Effective, "Where this broker listens."},
	"log.cleaner.backoff.ms":                   {Effective, "How long after something was written compacted logs are looked at, in milliseconds; at least 100."},
	"log.cleaner.dedupe.buffer.size":           {Effective, "How much memory one compaction may take for the keys that it knows, in bytes; at most what the box's memory allows (a 32nd). Each log directory runs one at a time."},
	"log.cleaner.delete.retention.ms":          {Effective, "The default of delete.retention.ms."},
	"log.cleaner.enable":                       {Effective, "Whether logs are compacted at all. Without, __consumer_offsets grows for ever."},
	"log.cleaner.io.buffer.load.factor":        {Effective, "How much of log.cleaner.dedupe.buffer.size is filled, from 0 to 1."},
	"log.cleaner.io.buffer.size":               {NoEffect, "cairn reads a batch at a time."},
	"log.cleaner.io.max.bytes.per.second":      {Effective, "How fast compaction reads and writes, in bytes of both together in a second."},
	"log.cleaner.max.compaction.lag.ms":        {Effective, "The default of max.compaction.lag.ms."},
	"log.cleaner.min.cleanable.ratio":          {Effective, "The default of min.cleanable.dirty.ratio."},
	"log.cleaner.min.compaction.lag.ms":        {Effective, "The default of min.compaction.lag.ms."},
	"log.cleaner.threads":                      {NoEffect, "cairn compacts one log at a time in each log directory."},
	"log.cleanup.policy":                       {Effective, "The default of cleanup.policy."},
	"log.dir":                                  {Effective, "Where partitions are stored."},
	"log.dirs":                                 {Effective, "Where partitions are stored."},
	"log.flush.interval.messages":              {Conditional, "The default of flush.messages: refused where it would not be kept."},
	"log.flush.interval.ms":                    {Conditional, "The default of flush.ms: refused where it would not be kept."},
	"log.index.interval.bytes":                 {Effective, "The default of index.interval.bytes."},
	"log.index.size.max.bytes":                 {Effective, "The default of segment.index.bytes."},
	"log.message.timestamp.after.max.ms":       {Effective, "The default of message.timestamp.after.max.ms."},
	"log.message.timestamp.before.max.ms":      {Effective, "The default of message.timestamp.before.max.ms."},
	"log.message.timestamp.type":               {Effective, "The default of message.timestamp.type."},
	"log.preallocate":                          {NoEffect, "cairn always preallocates active segments in steps, and cuts them when they are closed."},
	"log.retention.bytes":                      {Effective, "The default of retention.bytes."},
	"log.retention.hours":                      {Effective, "The default of retention.ms, in hours; weaker than log.retention.minutes and log.retention.ms."},
	"log.retention.minutes":                    {Effective, "The default of retention.ms, in minutes; weaker than log.retention.ms."},
	"log.retention.ms":                         {Effective, "The default of retention.ms."},
	"log.roll.hours":                           {Effective, "The default of segment.ms, in hours; weaker than log.roll.ms."},
	"log.roll.jitter.hours":                    {Effective, "The default of segment.jitter.ms, in hours; weaker than log.roll.jitter.ms."},
	"log.roll.jitter.ms":                       {Effective, "The default of segment.jitter.ms."},
	"log.roll.ms":                              {Effective, "The default of segment.ms."},
	"log.segment.bytes":                        {Effective, "The default of segment.bytes."},
	"log.segment.delete.delay.ms":              {Effective, "The default of file.delete.delay.ms."},
	"message.max.bytes":                        {Effective, "The default of max.message.bytes."},
	"min.insync.replicas":                      {Effective, "The default of a topic's min.insync.replicas."},
	"node.id":                                  {Effective, "The number of this broker."},
	"num.partitions":                           {Effective, "How many partitions a topic gets when nobody says."},
	"offset.metadata.max.bytes":                {Effective, "How much metadata a committed offset may carry, in bytes."},
	"offsets.retention.minutes":                {Effective, "How long the offsets of an empty group are kept, in minutes."},
	"offsets.topic.num.partitions":             {Effective, "How many partitions __consumer_offsets is created with."},
	"offsets.topic.replication.factor":         {Effective, "How many replicas __consumer_offsets is created with: at most as many as there are brokers, and up to three as more come."},
	"offsets.topic.segment.bytes":              {Effective, "The segment size of __consumer_offsets, in bytes."},
	"transaction.state.log.num.partitions":     {Effective, "How many partitions __transaction_state is created with."},
	"transaction.state.log.replication.factor": {Effective, "How many replicas __transaction_state is created with: at most as many as there are brokers, and up to three as more come."},
	"transaction.state.log.segment.bytes":      {Effective, "The segment size of __transaction_state, in bytes."},
	"transaction.state.log.min.isr":            {Effective, "The min.insync.replicas of __transaction_state; auto where it is created with fewer replicas."},
	"unclean.leader.election.enable":           {Effective, "The default of a topic's unclean.leader.election.enable."},
}
