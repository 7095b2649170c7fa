CREATE TABLE bid (id BIGINT, k STRING, lot INT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/bid.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE punctual (id BIGINT, k STRING, lot INT, price BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/punctual.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE visit (id BIGINT, who STRING, pages INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/visit.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE payment (id BIGINT, card STRING, status STRING, amount INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/payment.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE orders (id BIGINT, item STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/orders.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE shipments (id BIGINT, order_id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/shipments.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE rates (currency STRING, rate BIGINT, ts TIMESTAMP(3), PRIMARY KEY (currency) NOT ENFORCED, WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/rates.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
CREATE TABLE purchases (id BIGINT, currency STRING, amount BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '4.5' SECOND)
  WITH ('connector' = 'filesystem', 'path' = '${input}/purchases.csv', 'format' = 'csv', 'csv.null-literal' = 'NULL');
