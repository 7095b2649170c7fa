SELECT window_start, window_end, COUNT(*) AS n, SUM(pages) AS pages
FROM TABLE(SESSION(TABLE visit, DESCRIPTOR(ts), INTERVAL '3.2' SECOND))
GROUP BY window_start, window_end
