import java.util.List;
import java.util.Map;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper.States;
import org.apache.zookeeper.data.Stat;

/** Sessions that move, end, and live through a time without a majority. */
final class Sessions {
    static void add(Map<String, Ensemble.Check> checks) {
        checks.put("sessions-move-and-close", Sessions::move);
        checks.put("a-session-that-was-closed-by-another-connection", Sessions::closedElsewhere);
        checks.put("read-only-and-back", Sessions::readOnly);
        checks.put("czxid-rises", Sessions::czxid);
    }

    private static void move(String path) throws Exception {
        List<Integer> followers = Ensemble.followers();
        Client holder = Client.open(followers.get(0));
        long session = holder.zk.getSessionId();
        byte[] password = holder.zk.getSessionPasswd();
        holder.make(path, "", CreateMode.EPHEMERAL);
        Client wrong = Client.reopen(session, new byte[16], followers.get(1));
        Ensemble.until("the wrong password is refused", () -> wrong.saw(KeeperState.Expired));
        Ensemble.that(wrong.zk.getState() == States.CLOSED, wrong.zk.getState());
        Ensemble.that(holder.zk.exists(path, false) != null, "a wrong password ended the session");
        for (int n : new int[] {followers.get(1), Ensemble.OBSERVER, followers.get(0), Ensemble.leader(), Ensemble.OBSERVER}) {
            Client before = holder;
            before.goTo();
            Client moved = Client.reopen(session, password, n);
            Ensemble.until("the session on server " + n, () -> moved.zk.getState() == States.CONNECTED);
            Ensemble.that(moved.zk.getSessionId() == session, "another session:", moved.zk.getSessionId());
            // ZooKeeper may notice as late as at the next write that the session is another connection's.
            Ensemble.until("the old connection is closed", () -> {
                before.zk.setData(path, null, -1, (rc, p, x, s) -> {}, null);
                return before.zk.getState() != States.CONNECTED;
            });
            Stat stat = moved.zk.exists(path, false);
            Ensemble.that(stat != null && stat.getEphemeralOwner() == session, "its ephemeral:", stat);
            holder = moved;
        }
        holder.zk.close();
        for (int n : Ensemble.ADDRESS.keySet()) {
            Client witness = Client.open(n);
            Failover.sync(witness, "/");
            Ensemble.that(witness.zk.exists(path, false) == null, "server", n, "has the ephemeral of a closed session");
        }
        Client late = Client.reopen(session, password, Ensemble.OBSERVER);
        Ensemble.until("the closed session is refused", () -> late.saw(KeeperState.Expired));
    }

    private static void closedElsewhere(String path) throws Exception {
        Client c = Client.open(Ensemble.followers().get(0));
        c.make(path, "", CreateMode.EPHEMERAL);
        c.goTo(); // it must not take its session back
        Client thief = Client.reopen(c.zk.getSessionId(), c.zk.getSessionPasswd(), Ensemble.leader());
        Ensemble.until("the session moved", () -> thief.zk.getState() == States.CONNECTED);
        thief.zk.close();
        Ensemble.until("the connection is lost", () -> {
            c.zk.setData(path, null, -1, (rc, p, x, s) -> {}, null);
            return c.zk.getState() != States.CONNECTED;
        });
        c.goTo(Ensemble.OBSERVER);
        Ensemble.until("its client is told of the end", () -> c.saw(KeeperState.Expired));
    }

    private static void readOnly(String path) throws Exception {
        // A session of all servers: a read-only server cannot say whether it is still open, and takes it back only later.
        Client c = Client.open(10_000, true, 3);
        c.make(path, "there", CreateMode.PERSISTENT);
        c.make(path + "/alive", "", CreateMode.EPHEMERAL);
        long session = c.zk.getSessionId();
        Client.Events events = new Client.Events();
        c.zk.getData(path, events, null);
        Ensemble.order("kill", 1);
        Ensemble.order("kill", 2);
        Ensemble.order("await", 3, "read-only");
        Client fresh = Client.open(10_000, true, 3);
        Ensemble.that(fresh.zk.getState() == States.CONNECTEDREADONLY && fresh.saw(KeeperState.ConnectedReadOnly), fresh.zk.getState(), fresh.states);
        // (The client is slow to say that its connection is lost.)
        Ensemble.until("the session of all servers is sent away", () -> c.zk.getState() == States.CONNECTING);
        Ensemble.that(new String(Ensemble.again(() -> fresh.zk.getData(path, false, null))).equals("there"), "the data");
        Ensemble.that(fresh.zk.getChildren(path, false).size() == 1, "the children");
        Ensemble.fails(Code.NOTREADONLY, () -> fresh.zk.setData(path, null, -1));
        Ensemble.fails(Code.NOTREADONLY, () -> fresh.zk.create(path + "/x", null, Ids.OPEN_ACL_UNSAFE, CreateMode.PERSISTENT));
        Ensemble.fails(Code.NOTREADONLY, () -> fresh.zk.multi(List.of(Op.delete(path, -1))));
        Ensemble.that(!c.saw(KeeperState.ConnectedReadOnly), "a read-only server took a session of all servers");
        fresh.goTo(1, 3);
        c.goTo(1, 3);
        Ensemble.order("start", 1);
        Ensemble.order("await", 1, "leader", "follower");
        for (Client client : List.of(c, fresh)) {
            Ensemble.until("a session that writes", () -> client.zk.getState() == States.CONNECTED);
        }
        Ensemble.that(Ensemble.again(() -> fresh.zk.setData(path, "back".getBytes(), -1)) != null, "the write");
        events.are(List.of("NodeDataChanged " + path));
        Stat alive = Ensemble.again(() -> c.zk.exists(path + "/alive", false));
        Ensemble.that(c.zk.getSessionId() == session && alive != null && alive.getEphemeralOwner() == session, "the session went", alive);
    }

    /** A registration like that of Kafka's brokers, whose epoch is its czxid, over leaders that die and a restart of all. */
    private static void czxid(String path) throws Exception {
        long last = 0;
        for (int round = 0; round < 4; round++) {
            Client c = Client.open(10_000, false, 1, 2, 3, 4);
            String name = path;
            Ensemble.again(() -> c.zk.create(name, null, Ids.OPEN_ACL_UNSAFE, CreateMode.EPHEMERAL));
            Stat stat = c.zk.exists(path, false);
            Ensemble.that(stat.getCzxid() > last && stat.getEphemeralOwner() == c.zk.getSessionId(), "czxid", stat.getCzxid(), "after", last);
            last = stat.getCzxid();
            if (round % 2 == 0) {
                Ensemble.order("kill", Ensemble.leader());
                Ensemble.order("leader");
                Ensemble.order("heal");
            } else {
                for (int n : Ensemble.ADDRESS.keySet()) {
                    Ensemble.order("kill", n);
                }
                Ensemble.order("heal");
            }
            Stat kept = Ensemble.again(() -> c.zk.exists(name, false));
            Ensemble.that(kept != null && kept.getCzxid() == last, "the ephemeral of a session that is open", kept);
            c.zk.close();
        }
    }
}
