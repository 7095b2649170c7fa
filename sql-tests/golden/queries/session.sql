SELECT window_start, window_end, who, COUNT(*) AS n, SUM(pages) AS pages, MIN(pages) AS fewest, COUNT(DISTINCT pages) AS kinds
FROM TABLE(SESSION(TABLE visit PARTITION BY who, DESCRIPTOR(ts), INTERVAL '5.2' SECOND))
GROUP BY window_start, window_end, who
