SELECT o.id, o.item, s.id AS shipment
FROM orders AS o LEFT JOIN shipments AS s
ON o.id = s.order_id AND s.ts > o.ts - INTERVAL '5' SECOND AND s.ts < o.ts + INTERVAL '10' SECOND
