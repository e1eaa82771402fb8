-- Written by hand, and kept when 0000_initial.sql is generated again. What has happened stays as it was told, also for whoever
-- speaks SQL to the database: an entry is added, and never changed, replaced or taken away.
CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
--> statement-breakpoint
CREATE TRIGGER audit_never_forgets BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
--> statement-breakpoint
-- INSERT OR REPLACE deletes without asking a trigger of DELETE.
CREATE TRIGGER audit_is_never_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END;
--> statement-breakpoint
-- The same, and what is mirrored twice lands once.
CREATE TRIGGER audit_is_mirrored_once BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE mirror_id = NEW.mirror_id)
BEGIN SELECT RAISE(IGNORE); END;
--> statement-breakpoint
CREATE TRIGGER audit_undo_never_changes BEFORE UPDATE ON audit_undo
BEGIN SELECT RAISE(ABORT, 'audit_undo is append-only'); END;
--> statement-breakpoint
CREATE TRIGGER audit_undo_never_forgets BEFORE DELETE ON audit_undo
BEGIN SELECT RAISE(ABORT, 'audit_undo is append-only'); END;
--> statement-breakpoint
CREATE TRIGGER audit_undo_is_never_replaced BEFORE INSERT ON audit_undo
WHEN EXISTS (
  SELECT 1 FROM audit_undo
  WHERE audit_id = NEW.audit_id AND kind = NEW.kind AND key = NEW.key AND environment = NEW.environment
)
BEGIN SELECT RAISE(ABORT, 'audit_undo is append-only'); END;
