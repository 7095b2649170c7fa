-- The average of integers is an integer in Flink, and double precision here.
SELECT k, AVG(price) AS mean FROM punctual GROUP BY k
