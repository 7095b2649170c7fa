SELECT l.window_start, l.window_end, l.k, l.id AS low_id, r.id AS high_id
FROM (SELECT * FROM TABLE(TUMBLE(TABLE punctual, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price < 300) AS l
FULL JOIN (SELECT * FROM TABLE(TUMBLE(TABLE punctual, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE price > 700) AS r
ON l.window_start = r.window_start AND l.window_end = r.window_end AND l.k = r.k
