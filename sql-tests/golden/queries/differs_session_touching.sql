-- A row exactly a gap behind the one before joins its session in Flink, unless that was closed already. Here it begins another one, whenever it comes.
SELECT window_start, window_end, who, COUNT(*) AS n
FROM TABLE(SESSION(TABLE visit PARTITION BY who, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY window_start, window_end, who
