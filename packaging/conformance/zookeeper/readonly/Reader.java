import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooKeeper;

/**
 * Two of ZooKeeper's own clients while an ensemble loses its majority and gets it back: "old" has a session of the ensemble,
 * "fresh" comes when there is only a read-only server. Prints what happens to them, a line each.
 */
public class Reader {
    static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    static ZooKeeper open(String hosts, String name) throws Exception {
        return new ZooKeeper(hosts, 20000, event -> {
            if (event.getPath() == null) {
                say(name + " " + event.getState());
            }
        }, true);
    }

    /** Tries until the client is in the state that is wanted. */
    static void await(ZooKeeper zk, ZooKeeper.States state) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (zk.getState() != state) {
            if (System.nanoTime() > end) {
                say("not within 60 s: " + state + ", it is " + zk.getState());
                System.exit(1);
            }
            Thread.sleep(20);
        }
    }

    public static void main(String[] args) throws Exception {
        ZooKeeper old = open(args[0], "old");
        await(old, ZooKeeper.States.CONNECTED);
        long session = old.getSessionId();
        await(old, ZooKeeper.States.CONNECTING);
        ZooKeeper fresh = open(args[0], "fresh");
        await(fresh, ZooKeeper.States.CONNECTEDREADONLY);
        say("fresh read " + new String(fresh.getData("/v", true, null)));
        try {
            fresh.setData("/v", new byte[0], -1);
            say("fresh wrote");
            System.exit(1);
        } catch (KeeperException.NotReadOnlyException e) {
            say("fresh " + e.code());
        }
        await(fresh, ZooKeeper.States.CONNECTED);
        say("fresh read " + new String(fresh.getData("/v", false, null)));
        await(old, ZooKeeper.States.CONNECTED);
        old.setData("/v", "by the old one".getBytes(), -1);
        say(old.getSessionId() == session ? "old wrote with the same session" : "old wrote with another session");
        old.close();
        fresh.close();
        System.exit(0);
    }
}
