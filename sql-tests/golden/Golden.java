// Runs the queries in queries/ on Apache Flink over the files in input/ and writes the rows that each comes to in the end into
// expected/. Arguments: this folder, then names of queries (without them, all).

import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.time.format.DateTimeFormatterBuilder;
import java.time.temporal.ChronoField;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

public class Golden {
    static final DateTimeFormatter TIME =
            new DateTimeFormatterBuilder().appendPattern("yyyy-MM-dd HH:mm:ss").appendFraction(ChronoField.MICRO_OF_SECOND, 0, 6, true).toFormatter();

    public static void main(String[] arguments) throws Exception {
        Path folder = Path.of(arguments[0]).toAbsolutePath();
        TableEnvironment flink = environment(folder);
        List<String> chosen = Arrays.asList(arguments).subList(1, arguments.length);
        List<String> failed = new ArrayList<>();
        for (Path file : queries(folder)) {
            String name = file.getFileName().toString().replace(".sql", "");
            if (!chosen.isEmpty() && !chosen.contains(name)) {
                continue;
            }
            try {
                List<String> rows = rows(flink, Files.readString(file));
                Files.write(folder.resolve("expected").resolve(name + ".csv"), rows);
                System.out.println(name + ": " + rows.size() + " rows");
            } catch (Exception error) {
                failed.add(name);
                System.out.println(name + ": " + cause(error));
            }
        }
        if (!failed.isEmpty()) {
            System.out.println("failed: " + failed);
            System.exit(1);
        }
        System.exit(0);
    }

    /** One task, and a watermark after every row that raises it: the same rows are late in every run. */
    static TableEnvironment environment(Path folder) throws Exception {
        Configuration configuration = new Configuration();
        configuration.setString("parallelism.default", "1");
        configuration.setString("table.exec.resource.default-parallelism", "1");
        configuration.setString("pipeline.auto-watermark-interval", "0 ms");
        configuration.setString("table.local-time-zone", "UTC");
        TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
        String tables = Files.readString(folder.resolve("tables.flink.sql")).replace("${input}", folder.resolve("input").toString());
        for (String statement : tables.split(";\n")) {
            flink.executeSql(statement);
        }
        return flink;
    }

    static List<Path> queries(Path folder) throws Exception {
        try (var files = Files.list(folder.resolve("queries"))) {
            return files.sorted().toList();
        }
    }

    /** The rows of a query after all its changes, in the order of their text. */
    static List<String> rows(TableEnvironment flink, String query) throws Exception {
        TreeMap<String, Integer> counts = new TreeMap<>();
        try (CloseableIterator<Row> changes = flink.executeSql(query).collect()) {
            while (changes.hasNext()) {
                Row row = changes.next();
                int weight = switch (row.getKind()) {
                    case INSERT, UPDATE_AFTER -> 1;
                    case DELETE, UPDATE_BEFORE -> -1;
                };
                counts.merge(text(row), weight, Integer::sum);
            }
        }
        List<String> rows = new ArrayList<>();
        counts.forEach((row, count) -> {
            if (count < 0) {
                throw new IllegalStateException("more of a row was taken back than there was: " + row);
            }
            for (int i = 0; i < count; i++) {
                rows.add(row);
            }
        });
        return rows;
    }

    static String text(Row row) {
        List<String> cells = new ArrayList<>();
        for (int i = 0; i < row.getArity(); i++) {
            cells.add(cell(row.getField(i)));
        }
        return String.join(",", cells);
    }

    static String cell(Object value) {
        if (value == null) {
            return "NULL";
        }
        if (value instanceof LocalDateTime time) {
            return TIME.format(time);
        }
        if (value instanceof BigDecimal || value instanceof Double) {
            return new BigDecimal(value.toString()).stripTrailingZeros().toPlainString();
        }
        return value.toString();
    }

    static String cause(Throwable error) {
        while (error.getCause() != null) {
            error = error.getCause();
        }
        return error.toString();
    }
}
