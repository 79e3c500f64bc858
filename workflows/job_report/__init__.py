"""What a job did, for people: counts, reasons, confidence, fill rates, the slowest records, throughput."""
