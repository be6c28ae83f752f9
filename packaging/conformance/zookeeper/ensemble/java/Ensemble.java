import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.Socket;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import org.apache.zookeeper.KeeperException;

/**
 * Checks of an ensemble with ZooKeeper's own client. ENSEMBLE names the port of ../servers.py that takes orders. A line for
 * each check; exits with 1 if one failed. Arguments name the checks to do.
 */
public final class Ensemble {
    static final int OBSERVER = 4;
    static final List<Integer> VOTERS = List.of(1, 2, 3);
    static final long WAIT_MS = 20_000;

    interface Check {
        void run(String path) throws Exception;
    }

    private static Socket socket;
    private static BufferedReader answers;
    private static PrintWriter orders;
    static final Map<Integer, String> ADDRESS = new TreeMap<>();

    static synchronized String order(Object... words) throws IOException {
        StringBuilder line = new StringBuilder();
        for (Object word : words) {
            line.append(word).append(' ');
        }
        orders.println(line.toString().trim());
        String answer = answers.readLine();
        if (answer == null || !answer.startsWith("ok")) {
            throw new IOException(line + ": " + answer);
        }
        return answer.substring(2).trim();
    }

    static int leader() throws IOException {
        return Integer.parseInt(order("leader"));
    }

    static List<Integer> followers() throws IOException {
        List<Integer> others = new ArrayList<>(VOTERS);
        others.remove(Integer.valueOf(leader()));
        return others;
    }

    static void that(boolean holds, Object... what) {
        if (!holds) {
            throw new AssertionError(Arrays.toString(what));
        }
    }

    /** Polls; a lost connection is no answer. */
    static void until(String what, Callable<Boolean> holds) throws Exception {
        long deadline = System.nanoTime() + WAIT_MS * 1_000_000;
        while (true) {
            try {
                if (holds.call()) {
                    return;
                }
            } catch (KeeperException.ConnectionLossException e) {
                // asked again
            }
            that(System.nanoTime() < deadline, what, "did not happen in time");
            Thread.sleep(5);
        }
    }

    /** Asks until there is an answer. */
    static <T> T again(Callable<T> f) throws Exception {
        long deadline = System.nanoTime() + WAIT_MS * 1_000_000;
        while (true) {
            try {
                return f.call();
            } catch (KeeperException.ConnectionLossException | KeeperException.ReconfigInProgress e) {
                that(System.nanoTime() < deadline, "no answer but", e);
                Thread.sleep(10);
            }
        }
    }

    /** Expects an error. */
    static void fails(KeeperException.Code code, Callable<?> f) throws Exception {
        try {
            Object got = again(f);
            throw new AssertionError(code + " was expected, and the answer is " + got);
        } catch (KeeperException e) {
            that(e.code() == code, code, "was expected and not", e.code());
        }
    }

    public static void main(String[] only) throws Exception {
        String[] address = System.getenv("ENSEMBLE").split(":");
        socket = new Socket(address[0], Integer.parseInt(address[1]));
        answers = new BufferedReader(new InputStreamReader(socket.getInputStream()));
        orders = new PrintWriter(socket.getOutputStream(), true);
        for (String word : order("clients").split(" ")) {
            ADDRESS.put(Integer.valueOf(word.substring(0, 1)), word.substring(2));
        }
        Map<String, Check> checks = new TreeMap<>();
        Failover.add(checks);
        Sessions.add(checks);
        Pipeline.add(checks);
        Reconfig.add(checks);
        int failed = 0;
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            if (only.length > 0 && !Arrays.asList(only).contains(check.getKey())) {
                continue;
            }
            long began = System.nanoTime();
            Throwable error = null;
            try {
                order("heal");
                check.getValue().run("/java-" + check.getKey());
            } catch (Throwable e) {
                error = e;
                failed++;
            }
            Client.leaveAll();
            double seconds = (System.nanoTime() - began) / 1e9;
            System.out.printf("%s java %s (%.1f s)%n", error == null ? "ok  " : "FAIL", check.getKey(), seconds);
            if (error != null) {
                error.printStackTrace(System.out);
            }
            System.out.flush();
        }
        System.exit(failed == 0 ? 0 : 1);
    }
}
