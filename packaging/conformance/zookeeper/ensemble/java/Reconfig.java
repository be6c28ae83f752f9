import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.KeeperException.Code;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.admin.ZooKeeperAdmin;
import org.apache.zookeeper.data.Stat;

/** Servers are added, promoted, demoted and removed by ZooKeeperAdmin while clients write. */
final class Reconfig {
    private static final String EVERYBODY = "1p 2p 3p 4o ";
    private static final Pattern SERVER = Pattern.compile("(?m)^server\\.(\\d+)=.*?:(participant|observer)");
    private static final Pattern VERSION = Pattern.compile("(?m)^version=([0-9a-f]+)$");

    static void add(Map<String, Ensemble.Check> checks) {
        checks.put("reconfig-under-load", Reconfig::underLoad);
        checks.put("reconfigs-that-are-refused", Reconfig::refused);
    }

    /** A configuration in short. */
    private static String servers(byte[] config) {
        StringBuilder short_ = new StringBuilder();
        Matcher m = SERVER.matcher(new String(config));
        while (m.find()) {
            short_.append(m.group(1)).append(m.group(2).charAt(0)).append(' ');
        }
        return short_.toString();
    }

    private static long version(byte[] config) {
        Matcher m = VERSION.matcher(new String(config));
        Ensemble.that(m.find(), "no version in", new String(config));
        return Long.parseLong(m.group(1), 16);
    }

    private static ZooKeeperAdmin admin(int number, boolean superuser) throws Exception {
        ZooKeeperAdmin admin = new ZooKeeperAdmin(Ensemble.ADDRESS.get(number), Client.SESSION_MS, e -> {});
        Ensemble.until("a session", () -> admin.getState().isConnected());
        if (superuser) {
            admin.addAuthInfo("digest", "super:test".getBytes());
        }
        return admin;
    }

    private static void expect(ZooKeeperAdmin admin, String servers, String joining, String leaving) throws Exception {
        Client.Events events = new Client.Events();
        long before = version(Ensemble.again(() -> admin.getConfig(events, null)));
        byte[] config = null;
        for (long deadline = System.nanoTime() + Ensemble.WAIT_MS * 1_000_000; config == null;) {
            try {
                config = admin.reconfigure(joining, leaving, null, -1, new Stat());
            } catch (KeeperException.ConnectionLossException | KeeperException.NewConfigNoQuorum | KeeperException.ReconfigInProgress e) {
                Ensemble.that(System.nanoTime() < deadline, joining, leaving, "does not come to pass:", e);
                Thread.sleep(50);
            }
        }
        Ensemble.that(servers(config).equals(servers), "the configuration is", servers(config), "and not", servers);
        Ensemble.until("the configuration's watch", () -> events.got.equals(List.of("NodeDataChanged " + ZooDefs.CONFIG_NODE)));
        byte[] now = Ensemble.again(() -> admin.getConfig(false, null));
        Ensemble.that(servers(now).equals(servers) && version(now) > before, servers(now), version(now), before);
    }

    private static void underLoad(String path) throws Exception {
        AtomicBoolean stop = new AtomicBoolean();
        AtomicReference<Exception> wrong = new AtomicReference<>();
        Set<String> acknowledged = java.util.Collections.synchronizedSet(new HashSet<>());
        List<Thread> writers = new ArrayList<>();
        Client.open(1, 2, 3).make(path, "", CreateMode.PERSISTENT);
        for (int n : Ensemble.ADDRESS.keySet()) {
            Client c = Client.open(n, 1, 2, 3);
            Thread t = new Thread(() -> write(c, path + "/" + n + "-", stop, wrong, acknowledged));
            t.setDaemon(true);
            t.start();
            writers.add(t);
        }
        int leader = Ensemble.leader();
        int stays = Ensemble.followers().get(0);
        int follower = Ensemble.followers().get(1);
        ZooKeeperAdmin admin = admin(stays, true);
        try {
            expect(admin, "1p 2p 3p ", null, "4");
            Ensemble.order("renew", 4);
            expect(admin, EVERYBODY, Ensemble.order("line", 4, "observer"), null);
            Ensemble.order("await", 4, "observer");
            expect(admin, "1p 2p 3p 4p ", Ensemble.order("line", 4, "participant"), null);
            Ensemble.order("await", 4, "follower", "leader");
            expect(admin, EVERYBODY, Ensemble.order("line", 4, "observer"), null);
            Ensemble.order("await", 4, "observer");
            for (int victim : new int[] {follower, leader}) {
                expect(admin, EVERYBODY.replace(victim + "p ", ""), null, String.valueOf(victim));
                Ensemble.order("renew", victim);
                expect(admin, EVERYBODY, Ensemble.order("line", victim, "participant"), null);
                Ensemble.order("await", victim, "follower", "leader");
            }
        } finally {
            stop.set(true);
            admin.close();
        }
        for (Thread t : writers) {
            t.join(Ensemble.WAIT_MS);
        }
        Ensemble.that(wrong.get() == null, "a writer:", wrong.get());
        Client reader = Client.open(1, 2, 3, 4);
        Failover.sync(reader, path);
        Set<String> there = new HashSet<>(reader.zk.getChildren(path, false));
        Set<String> missing = new HashSet<>(acknowledged);
        missing.removeAll(there);
        Ensemble.that(missing.isEmpty() && acknowledged.size() > 100, missing.size(), "of", acknowledged.size(), "acknowledged creates are lost");
    }

    private static void write(Client c, String prefix, AtomicBoolean stop, AtomicReference<Exception> wrong, Set<String> acknowledged) {
        for (int i = 0; !stop.get(); i++) {
            try {
                c.make(prefix + i, "", CreateMode.PERSISTENT);
                acknowledged.add(prefix.substring(prefix.lastIndexOf('/') + 1) + i);
            } catch (KeeperException.ConnectionLossException e) {
                // it may have come to pass: the next one has another name
            } catch (Exception e) {
                wrong.compareAndSet(null, e);
                return;
            }
        }
    }

    private static void refused(String path) throws Exception {
        ZooKeeperAdmin admin = admin(Ensemble.followers().get(0), true);
        ZooKeeperAdmin stranger = admin(Ensemble.followers().get(0), false);
        try {
            byte[] before = admin.getConfig(false, null);
            long stale = version(before) - 1;
            String far = "server.%d=127.0.0.1:11%1$03d:12%1$03d:participant;127.0.0.1:13%1$03d";
            String members = Ensemble.order("line", Ensemble.leader(), "participant") + "," + String.format(far, 8) + "," + String.format(far, 9);
            Ensemble.fails(Code.NOAUTH, () -> stranger.reconfigure((String) null, "4", null, -1, null));
            Ensemble.fails(Code.BADVERSION, () -> admin.reconfigure((String) null, "4", null, stale, null));
            Ensemble.fails(Code.BADARGUMENTS, () -> admin.reconfigure("server.9=nonsense", null, null, -1, null));
            Ensemble.fails(Code.NEWCONFIGNOQUORUM, () -> admin.reconfigure((String) null, null, members, -1, null));
            Ensemble.that(new String(admin.getConfig(false, null)).equals(new String(before)), "a refused change has changed something");
        } finally {
            admin.close();
            stranger.close();
        }
    }
}
