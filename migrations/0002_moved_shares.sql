CREATE TABLE `moved_shares` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`environment_id` text NOT NULL,
	`kind` text NOT NULL,
	`key` text NOT NULL,
	`token_id` text NOT NULL,
	`moved_at` integer NOT NULL,
	`share` integer NOT NULL,
	`listed` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `moved_shares_by_document` ON `moved_shares` (`environment_id`,`kind`,`key`,`token_id`,`moved_at`);--> statement-breakpoint
CREATE INDEX `moved_shares_by_time` ON `moved_shares` (`moved_at`);