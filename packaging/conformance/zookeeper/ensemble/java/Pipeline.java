import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.ZooDefs.Ids;

/** Thousands of operations under way on one connection. */
final class Pipeline {
    private static final int NODES = 1000;

    static void add(Map<String, Ensemble.Check> checks) {
        checks.put("pipelined-through-a-follower", path -> run(path, Ensemble.followers().get(0)));
        checks.put("pipelined-through-the-observer", path -> run(path, Ensemble.OBSERVER));
    }

    /** What came back, in the order in which it did. */
    private static final class Answers {
        final AtomicReference<String> wrong = new AtomicReference<>();
        final CountDownLatch open;
        int next;
        long zxid;
        long set;

        Answers(int count) {
            open = new CountDownLatch(count);
        }

        void take(int number, boolean right, Object... what) {
            if (number != next || !right) {
                wrong.compareAndSet(null, "answer " + number + ", the " + next + "th to come: " + java.util.Arrays.toString(what));
            }
            next++;
            open.countDown();
        }

        /** Each write has a greater zxid than the one before. */
        boolean rises(long to) {
            boolean right = to > zxid;
            zxid = to;
            return right;
        }
    }

    private static void run(String path, int server) throws Exception {
        Client c = Client.open(server);
        c.make(path, "", CreateMode.PERSISTENT);
        int each = 6;
        Answers answers = new Answers(each * NODES);
        for (int i = 0; i < NODES; i++) {
            String node = path + "/" + i;
            int n = each * i;
            c.zk.create(node, "0".getBytes(), Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT,
                    (rc, p, x, name, stat) -> answers.take(n, rc == 0 && answers.rises(stat.getCzxid()), "create", rc, stat), null);
            c.zk.setData(node, "1".getBytes(), 0, (rc, p, x, stat) -> {
                answers.take(n + 1, rc == 0 && stat.getVersion() == 1 && answers.rises(stat.getMzxid()), "set", rc, stat);
                answers.set = rc == 0 ? stat.getMzxid() : 0;
            }, null);
            c.zk.getData(node, false, (rc, p, x, data, stat) -> answers.take(n + 2,
                    rc == 0 && new String(data).equals("1") && stat.getMzxid() == answers.set, "get", rc, stat), null);
            c.zk.multi(List.of(Op.check(node, 1), Op.create(node + "/in", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), Op.setData(node, "2".getBytes(), 1)),
                    (rc, p, x, results) -> answers.take(n + 3,
                            rc == 0 && answers.rises(((OpResult.SetDataResult) results.get(2)).getStat().getMzxid()), "multi", rc, results), null);
            c.zk.multi(List.of(Op.delete(node + "/in", -1), Op.setData(node, null, 2), Op.create(node, null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT), Op.delete(node, -1)),
                    (rc, p, x, results) -> answers.take(n + 4, rc == Code.NODEEXISTS.intValue() && rolledBack(results), "multi that fails", rc, results), null);
            c.zk.getData(node, false, (rc, p, x, data, stat) -> answers.take(n + 5,
                    rc == 0 && new String(data).equals("2") && stat.getVersion() == 2 && stat.getNumChildren() == 1, "after a multi that failed", rc, stat), null);
        }
        Ensemble.that(answers.open.await(30, TimeUnit.SECONDS), answers.open.getCount(), "answers did not come");
        Ensemble.that(answers.wrong.get() == null, answers.wrong.get());
    }

    private static boolean rolledBack(List<OpResult> results) {
        int[] expected = {0, 0, Code.NODEEXISTS.intValue(), Code.RUNTIMEINCONSISTENCY.intValue()};
        for (int i = 0; i < expected.length; i++) {
            if (!(results.get(i) instanceof OpResult.ErrorResult) || ((OpResult.ErrorResult) results.get(i)).getErr() != expected[i]) {
                return false;
            }
        }
        return results.size() == expected.length;
    }
}
