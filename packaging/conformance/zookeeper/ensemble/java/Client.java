import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.ZooDefs.Ids;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.client.HostProvider;

/** A client of ZooKeeper's that is sent to servers of the check's choice, and writes down what it is told. */
final class Client implements Watcher {
    static final int SESSION_MS = 6000; // far more than an election takes
    private static final List<Client> OPEN = new CopyOnWriteArrayList<>();

    final ZooKeeper zk;
    final List<WatchedEvent> states = new CopyOnWriteArrayList<>();
    private final Hosts hosts;

    /** The servers to connect to, which can be others later. None: a port that refuses. */
    private static final class Hosts implements HostProvider {
        private volatile int[] numbers;
        private int next;

        @Override
        public int size() {
            return Math.max(numbers.length, 1);
        }

        @Override
        public synchronized InetSocketAddress next(long spinDelay) {
            try {
                Thread.sleep(10); // spaces the attempts
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            int[] now = numbers;
            if (now.length == 0) {
                return new InetSocketAddress("127.0.0.1", 1);
            }
            String[] address = Ensemble.ADDRESS.get(now[next++ % now.length]).split(":");
            return new InetSocketAddress(address[0], Integer.parseInt(address[1]));
        }

        @Override
        public void onConnected() {}

        @Override
        public boolean updateServerList(Collection<InetSocketAddress> servers, InetSocketAddress current) {
            return false;
        }
    }

    private Client(int timeoutMs, boolean readOnly, long session, byte[] password, int... numbers) throws IOException {
        hosts = new Hosts();
        hosts.numbers = numbers;
        zk = session == 0
                ? new ZooKeeper("127.0.0.1:1", timeoutMs, this, readOnly, hosts)
                : new ZooKeeper("127.0.0.1:1", timeoutMs, this, session, password, readOnly, hosts);
        OPEN.add(this);
    }

    static Client open(int... numbers) throws Exception {
        return open(SESSION_MS, false, numbers);
    }

    static Client open(int timeoutMs, boolean readOnly, int... numbers) throws Exception {
        Client c = new Client(timeoutMs, readOnly, 0, null, numbers);
        Ensemble.until("a session", () -> c.zk.getState().isConnected());
        return c;
    }

    /** Reopens a session, and does not wait for what comes of it. */
    static Client reopen(long session, byte[] password, int... numbers) throws Exception {
        return new Client(SESSION_MS, false, session, password, numbers);
    }

    void goTo(int... numbers) {
        hosts.numbers = numbers;
    }

    /** Closes the connection under the client. */
    void cut() throws IOException {
        zk.getTestable().closeSocket();
    }

    boolean saw(Event.KeeperState state) {
        return states.stream().anyMatch(e -> e.getState() == state);
    }

    void make(String path, String data, CreateMode mode) throws KeeperException, InterruptedException {
        zk.create(path, data.getBytes(), Ids.OPEN_ACL_UNSAFE, mode);
    }

    @Override
    public void process(WatchedEvent e) {
        if (e.getType() == Event.EventType.None) {
            states.add(e);
        }
    }

    /** Ends the clients of a check, at a server that can be reached. */
    static void leaveAll() {
        for (Client c : OPEN) {
            c.goTo(1, 2, 3);
            try {
                c.zk.close(2000);
            } catch (Exception e) {
                // its session expires
            }
        }
        OPEN.clear();
    }

    /** Events of one watcher, in their order. */
    static final class Events implements Watcher {
        final List<String> got = new CopyOnWriteArrayList<>();

        @Override
        public void process(WatchedEvent e) {
            if (e.getType() != Event.EventType.None) {
                got.add(e.getType() + " " + e.getPath());
            }
        }

        void are(List<String> expected) throws Exception {
            Ensemble.until("events " + expected, () -> got.size() >= expected.size());
            Ensemble.that(new ArrayList<>(got).equals(expected), "events", got, "and not", expected);
        }
    }
}
