// What programs on the JVM and BI tools do through PostgreSQL's JDBC driver: a line of output for each, compared by the test
// that runs this. Errors are lines too.

import java.io.StringReader;
import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.StringJoiner;
import org.postgresql.copy.CopyManager;
import org.postgresql.core.BaseConnection;

public class Client {
    interface Step {
        Object run() throws Exception;
    }

    static void step(String name, Step step) {
        try {
            System.out.println(name + ": " + step.run());
        } catch (SQLException e) {
            System.out.println(name + ": " + e.getSQLState() + " " + e.getMessage().lines().findFirst().orElse(""));
        } catch (Exception e) {
            System.out.println(name + ": " + e);
        }
    }

    /** The rows' columns, or those named, as text. */
    static String rows(ResultSet result, String... names) throws SQLException {
        StringJoiner rows = new StringJoiner(" ");
        while (result.next()) {
            StringJoiner row = new StringJoiner("|");
            if (names.length == 0) {
                for (int i = 1; i <= result.getMetaData().getColumnCount(); i++) row.add(result.getString(i));
            }
            for (String name : names) row.add(result.getString(name));
            rows.add(row.toString());
        }
        result.close();
        return rows.toString();
    }

    static void writing(Connection connection) {
        step("batch", () -> {
            PreparedStatement insert = connection.prepareStatement("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?, ?)");
            for (int i = 0; i < 50; i++) {
                insert.setLong(1, i);
                insert.setString(2, "n" + i % 5);
                insert.setBigDecimal(3, new BigDecimal("10.25"));
                insert.setTimestamp(4, Timestamp.valueOf("2026-01-01 00:00:00.123"));
                insert.setBoolean(5, i % 2 == 0);
                insert.setDate(6, Date.valueOf("2024-02-29"));
                insert.setDouble(7, i * 1.5);
                insert.addBatch();
            }
            return insert.executeBatch().length;
        });
        step("null", () -> {
            PreparedStatement insert = connection.prepareStatement("INSERT INTO account (id, name) VALUES (?, ?)");
            insert.setLong(1, 1000);
            insert.setNull(2, Types.VARCHAR);
            return insert.executeUpdate();
        });
        step("generated keys", () -> {
            String insert = "INSERT INTO account (id, name) VALUES (1001, 'z')";
            PreparedStatement statement = connection.prepareStatement(insert, Statement.RETURN_GENERATED_KEYS);
            statement.executeUpdate();
            return rows(statement.getGeneratedKeys(), "id", "name");
        });
        step("copy", () -> {
            String copy = "COPY account (id, name) FROM STDIN WITH (FORMAT csv)";
            return new CopyManager((BaseConnection) connection).copyIn(copy, new StringReader("1002,q\n1003,r\n"));
        });
        step("rollback", () -> {
            connection.setAutoCommit(false);
            connection.createStatement().executeUpdate("INSERT INTO account (id) VALUES (5000)");
            connection.rollback();
            connection.setAutoCommit(true);
            return rows(connection.createStatement().executeQuery("SELECT count(*) FROM account WHERE id = 5000"));
        });
    }

    static void reading(Connection connection) {
        step("view", () -> rows(connection.createStatement().executeQuery("SELECT * FROM by_name ORDER BY name")));
        step("binary", () -> {
            String query = "SELECT id, amount, at, ok, d, x FROM account WHERE name = ? AND id > ? ORDER BY id LIMIT 1";
            PreparedStatement select = connection.prepareStatement(query);
            String last = "";
            // From the fifth execution on the driver asks for a named statement and binary values.
            for (int i = 0; i < 8; i++) {
                select.setString(1, "n1");
                select.setInt(2, 20);
                ResultSet row = select.executeQuery();
                row.next();
                last = row.getLong(1) + " " + row.getBigDecimal(2) + " " + row.getTimestamp(3) + " " + row.getBoolean(4) + " "
                    + row.getDate(5) + " " + row.getDouble(6);
            }
            return last;
        });
        step("array", () -> {
            PreparedStatement select = connection.prepareStatement("SELECT count(*) FROM account WHERE id = ANY(?)");
            select.setArray(1, connection.createArrayOf("bigint", new Long[] {1L, 2L, 3L}));
            return rows(select.executeQuery());
        });
        step("cursor", () -> {
            connection.setAutoCommit(false);
            Statement statement = connection.createStatement();
            statement.setFetchSize(1000);
            ResultSet result = statement.executeQuery("SELECT * FROM generate_series(1, 100000)");
            long sum = 0;
            while (result.next()) sum += result.getLong(1);
            connection.commit();
            connection.setAutoCommit(true);
            return sum;
        });
        step("timeout", () -> {
            Statement statement = connection.createStatement();
            statement.setQueryTimeout(1);
            return rows(statement.executeQuery("SELECT count(*) FROM generate_series(1, 10000000) a, generate_series(1, 100000) b"));
        });
        step("unknown column", () -> rows(connection.createStatement().executeQuery("SELECT nme FROM account")));
    }

    static void describing(Connection connection) throws SQLException {
        DatabaseMetaData meta = connection.getMetaData();
        String[] kinds = {"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"};
        step("tables", () -> rows(meta.getTables(null, "public", "%", kinds), "TABLE_NAME", "TABLE_TYPE"));
        step("columns", () -> rows(meta.getColumns(null, "public", "account", "%"), "COLUMN_NAME", "TYPE_NAME", "DECIMAL_DIGITS", "IS_NULLABLE"));
        step("key", () -> rows(meta.getPrimaryKeys(null, "public", "account"), "COLUMN_NAME", "PK_NAME"));
        step("index", () -> rows(meta.getIndexInfo(null, "public", "account", false, false), "INDEX_NAME", "COLUMN_NAME"));
        step("foreign keys", () -> rows(meta.getImportedKeys(null, "public", "account")));
        step("schemas", () -> rows(meta.getSchemas(), "TABLE_SCHEM"));
        step("catalogs", () -> rows(meta.getCatalogs()));
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://127.0.0.1:" + arguments[0] + "/eddyline";
        try (Connection connection = DriverManager.getConnection(url, "eddyline", "")) {
            Statement statement = connection.createStatement();
            statement.execute("CREATE TABLE account (id BIGINT PRIMARY KEY, name VARCHAR, amount DECIMAL(12, 2), at TIMESTAMP, "
                + "ok BOOLEAN, d DATE, x DOUBLE PRECISION)");
            statement.execute("CREATE MATERIALIZED VIEW by_name AS SELECT name, COUNT(*) AS n, SUM(amount) AS total FROM account GROUP BY name");
            writing(connection);
            reading(connection);
            describing(connection);
        }
    }
}
