ALTER TABLE anomalies ADD COLUMN threshold REAL;
COMMENT ON COLUMN anomalies.threshold IS 'That the verdict is by, where it follows the recording; null: the model''s.';
