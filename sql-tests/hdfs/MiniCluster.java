import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/**
 * HDFS in one process: a NameNode and a DataNode on loopback. The argument is the directory of its data. Prints the NameNode's port
 * when files can be written; then obeys lines of its standard input, `stop` (there is no NameNode any more) and `start` (there is one
 * on the same port with the same data), and repeats them when that is done. Ends when its standard input does. The folder /eddyline
 * belongs to the user of that name, all others to whoever runs this, who alone may look into /secret.
 */
public class MiniCluster {
    public static void main(String[] arguments) throws Exception {
        HdfsConfiguration settings = new HdfsConfiguration();
        settings.set(MiniDFSCluster.HDFS_MINIDFS_BASEDIR, new File(arguments[0], "data").getAbsolutePath());
        settings.set("dfs.heartbeat.interval", "1");
        // So small that the tests have files of several blocks.
        settings.set("dfs.blocksize", String.valueOf(4 << 20));
        MiniDFSCluster cluster = new MiniDFSCluster.Builder(settings).numDataNodes(1).build();
        cluster.waitClusterUp();
        FileSystem files = cluster.getFileSystem();
        files.mkdirs(new Path("/eddyline"));
        files.setOwner(new Path("/eddyline"), "eddyline", "eddyline");
        files.mkdirs(new Path("/secret"), new FsPermission("700"));
        System.out.println(cluster.getNameNodePort());
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("stop")) {
                cluster.shutdownNameNode(0);
            } else if (line.equals("start")) {
                cluster.restartNameNode(0, false);
                cluster.waitActive();
                // It knows no place of any block until the DataNode has told it.
                while (cluster.getNameNode().isInSafeMode()) {
                    Thread.sleep(100);
                }
            } else {
                throw new IllegalArgumentException(line);
            }
            System.out.println(line);
        }
        Runtime.getRuntime().halt(0);
    }
}
