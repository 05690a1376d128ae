-- Throughput that players measured, so that routers and analysts see a CDN become slow before its viewers stall.
ALTER TABLE ${database}.session_slices ADD COLUMN IF NOT EXISTS throughput_kbps_sum Int64 COMMENT 'throughput that players measured, summed over the reports that tell it, each at most 100 Mbit/s; kbit/s' AFTER numbered_reports,
    ADD COLUMN IF NOT EXISTS throughput_reports Int64 COMMENT 'reports that tell a measured throughput' AFTER throughput_kbps_sum;
