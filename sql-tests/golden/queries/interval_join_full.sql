SELECT o.id, o.item, s.id AS shipment, s.order_id, s.ts AS shipped, o.ts AS ordered
FROM orders AS o FULL JOIN shipments AS s
ON o.id = s.order_id AND o.ts BETWEEN s.ts - INTERVAL '10' SECOND AND s.ts + INTERVAL '3' SECOND
