import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.data.Stat;

/** The server of a client dies while it has an ephemeral, all kinds of watches, and creates under way. */
final class Failover {
    private static final int CREATES = 400;
    private static final int FIRST = 30; // are answered before the server dies

    static void add(Map<String, Ensemble.Check> checks) {
        checks.put("failover-from-a-follower", path -> run(path, Ensemble.followers().get(0), Ensemble.followers().get(1)));
        checks.put("failover-from-the-leader", path -> run(path, Ensemble.leader(), Ensemble.followers().get(0)));
        checks.put("failover-to-the-observer", path -> run(path, Ensemble.leader(), Ensemble.OBSERVER));
        checks.put("many-watches-are-caught-up-with", Failover::manyWatches);
    }

    static int[] voters(int without) {
        return Ensemble.VOTERS.stream().filter(n -> n != without).mapToInt(n -> n).toArray();
    }

    static void run(String path, int victim, int refuge) throws Exception {
        Client c = Client.open(victim);
        Client other = Client.open(voters(victim));
        long session = c.zk.getSessionId();
        for (String node : List.of("", "/n", "/changed", "/same", "/deleted", "/parent", "/tree", "/both")) {
            c.make(path + node, "before", CreateMode.PERSISTENT);
        }
        c.make(path + "/alive", "", CreateMode.EPHEMERAL);
        Client.Events changed = new Client.Events(), same = new Client.Events(), deleted = new Client.Events(), created = new Client.Events();
        Client.Events none = new Client.Events(), parent = new Client.Events(), tree = new Client.Events(), both = new Client.Events();
        c.zk.getData(path + "/changed", changed, null);
        c.zk.getData(path + "/same", same, null);
        c.zk.getChildren(path + "/same", same);
        c.zk.getData(path + "/deleted", deleted, null);
        c.zk.exists(path + "/created", created);
        c.zk.exists(path + "/none", none);
        c.zk.getChildren(path + "/parent", parent);
        c.zk.addWatch(path + "/tree", tree, AddWatchMode.PERSISTENT_RECURSIVE);
        c.zk.addWatch(path + "/both", both, AddWatchMode.PERSISTENT);

        List<String> results = new ArrayList<>();
        List<Code> codes = new ArrayList<>();
        CountDownLatch first = new CountDownLatch(FIRST), all = new CountDownLatch(CREATES);
        for (int i = 0; i < CREATES; i++) {
            boolean sequential = i % 2 == 1;
            c.zk.create(path + (sequential ? "/n/s-" : "/n/p-" + i), String.valueOf(i).getBytes(), Ids.OPEN_ACL_UNSAFE,
                    sequential ? CreateMode.PERSISTENT_SEQUENTIAL : CreateMode.PERSISTENT, (rc, asked, context, name) -> {
                        codes.add(Code.get(rc)); // from one thread, in the order of the requests
                        results.add(rc == 0 ? name : null);
                        first.countDown();
                        all.countDown();
                    }, null);
        }
        first.await();
        c.goTo();
        Ensemble.order("kill", victim);
        Ensemble.until("the connection is lost", () -> !c.zk.getState().isConnected());
        all.await();

        Ensemble.again(() -> other.zk.setData(path + "/changed", "after".getBytes(), -1));
        Ensemble.again(() -> {
            other.zk.delete(path + "/deleted", -1);
            return null;
        });
        for (String node : List.of("/created", "/parent/child", "/tree/missed", "/both/missed")) {
            Ensemble.again(() -> other.zk.create(path + node, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        }
        c.goTo(refuge);
        Stat alive = Ensemble.again(() -> c.zk.exists(path + "/alive", false));
        Ensemble.that(alive != null && alive.getEphemeralOwner() == session && c.zk.getSessionId() == session, "the session and its ephemeral", alive);
        changed.are(List.of("NodeDataChanged " + path + "/changed"));
        deleted.are(List.of("NodeDeleted " + path + "/deleted"));
        created.are(List.of("NodeCreated " + path + "/created"));
        parent.are(List.of("NodeChildrenChanged " + path + "/parent"));
        judge(c, path + "/n", codes, results);
        // Persistent watches are told of nothing that was missed, and of everything from now on.
        Ensemble.again(() -> other.zk.create(path + "/tree/a", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Ensemble.again(() -> other.zk.create(path + "/tree/a/b", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Ensemble.again(() -> other.zk.setData(path + "/both", null, -1));
        Ensemble.again(() -> other.zk.create(path + "/both/c", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        tree.are(List.of("NodeCreated " + path + "/tree/a", "NodeCreated " + path + "/tree/a/b"));
        both.are(List.of("NodeDataChanged " + path + "/both", "NodeChildrenChanged " + path + "/both"));
        other.zk.setData(path + "/changed", "later".getBytes(), -1); // nobody watches that any more
        sync(c, path);
        same.are(List.of());
        none.are(List.of());
        Ensemble.that(changed.got.size() == 1, "a watch fired twice:", changed.got);
    }

    /** What came to pass are the first of the creates, each once, and among them all that were answered. */
    private static void judge(Client c, String parent, List<Code> codes, List<String> results) throws Exception {
        Map<Integer, String> found = new HashMap<>();
        Map<Integer, Long> czxids = new HashMap<>();
        for (String name : c.zk.getChildren(parent, false)) {
            Stat stat = new Stat();
            int number = Integer.parseInt(new String(c.zk.getData(parent + "/" + name, false, stat)));
            Ensemble.that(found.put(number, parent + "/" + name) == null, "create", number, "came to pass twice");
            czxids.put(number, stat.getCzxid());
        }
        int answered = 0;
        for (int i = 0; i < CREATES; i++) {
            Ensemble.that(found.containsKey(i) == (i < found.size()), "of", found.size(), "creates, number", i, "is", found.get(i));
            Ensemble.that(i == 0 || i >= found.size() || czxids.get(i) > czxids.get(i - 1), "create", i, "overtook another");
            Ensemble.that(codes.get(i) == Code.OK || codes.get(i) == Code.CONNECTIONLOSS, "create", i, "ended with", codes.get(i));
            if (results.get(i) != null) {
                answered++;
                Ensemble.that(results.get(i).equals(found.get(i)), "create", i, "was answered with", results.get(i), "and is", found.get(i));
            }
        }
        Ensemble.that(answered >= FIRST, answered, "creates were answered");
    }

    static void sync(Client c, String path) throws Exception {
        CountDownLatch done = new CountDownLatch(1);
        AtomicReference<Code> code = new AtomicReference<>();
        c.zk.sync(path, (rc, asked, context) -> {
            code.set(Code.get(rc));
            done.countDown();
        }, null);
        done.await();
        Ensemble.that(code.get() == Code.OK, "sync:", code.get());
    }

    /** So many that the client sends them in several setWatches2. */
    private static void manyWatches(String path) throws Exception {
        int nodes = 3000;
        Client c = Client.open(Ensemble.OBSERVER);
        c.make(path, "", CreateMode.PERSISTENT);
        String padding = "x".repeat(60);
        Client.Events events = new Client.Events();
        CountDownLatch set = new CountDownLatch(nodes);
        for (int i = 0; i < nodes; i++) {
            String node = path + "/" + padding + i;
            c.zk.create(node, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT, (rc, p, x, n) -> {}, null);
            c.zk.getData(node, events, (rc, p, x, d, s) -> set.countDown(), null);
        }
        set.await();
        Client other = Client.open(1, 2, 3);
        c.goTo();
        c.cut();
        Ensemble.until("the connection is lost", () -> !c.zk.getState().isConnected());
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < nodes; i += 2) {
            String node = path + "/" + padding + i;
            other.zk.setData(node, null, -1, (rc, p, x, s) -> {}, null);
            expected.add("NodeDataChanged " + node);
        }
        sync(other, path);
        c.goTo(Ensemble.followers().get(0));
        Ensemble.again(() -> c.zk.exists(path, false));
        sync(c, path);
        Ensemble.until("the events", () -> events.got.size() >= expected.size());
        List<String> got = new ArrayList<>(events.got);
        got.sort(null);
        expected.sort(null);
        Ensemble.that(got.equals(expected), got.size(), "events and not", expected.size());
    }
}
