CREATE TABLE `api_tokens` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`shown` text NOT NULL,
	`role` text NOT NULL,
	`scope` text NOT NULL,
	`groups` text DEFAULT '[]' NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`expires_at` integer,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `api_tokens_hash_unique` ON `api_tokens` (`hash`);--> statement-breakpoint
CREATE INDEX `api_tokens_by_creation` ON `api_tokens` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `api_tokens_by_update` ON `api_tokens` (`updated_at`,`id`);--> statement-breakpoint
CREATE INDEX `api_tokens_by_name` ON `api_tokens` (`name`,`id`);--> statement-breakpoint
CREATE INDEX `api_tokens_by_role` ON `api_tokens` (`role`,`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `changes` (
	`environment_id` text NOT NULL,
	`version` integer NOT NULL,
	`id` text NOT NULL,
	`previous_id` text NOT NULL,
	`documents` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`environment_id`, `version`)
);
--> statement-breakpoint
CREATE INDEX `changes_by_age` ON `changes` (`created_at`);--> statement-breakpoint
CREATE TABLE `code_references` (
	`id` integer PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`repository` text NOT NULL,
	`flag_key` text NOT NULL,
	`path` text NOT NULL,
	`line` integer NOT NULL,
	`snippet` text
);
--> statement-breakpoint
CREATE INDEX `code_references_by_project` ON `code_references` (`project_id`);--> statement-breakpoint
CREATE INDEX `code_references_by_flag` ON `code_references` (`project_id`,`flag_key`);--> statement-breakpoint
CREATE INDEX `code_references_by_repository` ON `code_references` (`project_id`,`repository`);--> statement-breakpoint
CREATE TABLE `code_repositories` (
	`project_id` text NOT NULL,
	`repository` text NOT NULL,
	`commit` text NOT NULL,
	`branch` text NOT NULL,
	`hash` text NOT NULL,
	`references` integer NOT NULL,
	`uploaded_at` integer NOT NULL,
	PRIMARY KEY(`project_id`, `repository`)
);
--> statement-breakpoint
CREATE TABLE `dependencies` (
	`environment_id` text NOT NULL,
	`source_kind` text NOT NULL,
	`source_key` text NOT NULL,
	`target_kind` text NOT NULL,
	`target_key` text NOT NULL,
	PRIMARY KEY(`environment_id`, `source_kind`, `source_key`, `target_kind`, `target_key`)
);
--> statement-breakpoint
CREATE INDEX `dependencies_by_target` ON `dependencies` (`environment_id`,`target_kind`,`target_key`);--> statement-breakpoint
CREATE TABLE `document_sizes` (
	`environment_id` text NOT NULL,
	`kind` text NOT NULL,
	`key` text NOT NULL,
	`bytes` integer NOT NULL,
	PRIMARY KEY(`environment_id`, `kind`, `key`)
);
--> statement-breakpoint
CREATE TABLE `environments` (
	`id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`key` text NOT NULL,
	`name` text NOT NULL,
	`location` text,
	`version` integer NOT NULL,
	`change_id` text NOT NULL,
	`published_version` integer DEFAULT 0 NOT NULL,
	`published_revision` integer DEFAULT 0 NOT NULL,
	`ruleset_bytes` integer DEFAULT 0 NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `environments_by_key` ON `environments` (`project_id`,`key`);--> statement-breakpoint
CREATE INDEX `environments_by_creation` ON `environments` (`created_at`);--> statement-breakpoint
CREATE INDEX `environments_lagging` ON `environments` (`id`) WHERE version > published_version;--> statement-breakpoint
CREATE TABLE `flag_configurations` (
	`environment_id` text NOT NULL,
	`flag_id` text NOT NULL,
	`version` integer NOT NULL,
	`on` integer NOT NULL,
	`off_variation` text,
	`track_exposures` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`full_since` integer,
	`summary` text GENERATED ALWAYS AS (CASE
    WHEN "on" = 0 THEN json_array('variation', off_variation)
    WHEN json_array_length(rules) + json_array_length(targets) + json_array_length(prerequisites) > 0
      THEN json_array('depends', json_array_length(rules), json_array_length(targets), json_array_length(prerequisites))
    WHEN json_type(fallthrough, '$.split') IS NULL THEN json_array('variation', fallthrough ->> '$.variation')
    ELSE json_array('split', off_variation, fallthrough -> '$.split.ranges') END) STORED NOT NULL,
	`prerequisites` text NOT NULL,
	`targets` text NOT NULL,
	`rules` text NOT NULL,
	`fallthrough` text NOT NULL,
	PRIMARY KEY(`environment_id`, `flag_id`)
);
--> statement-breakpoint
CREATE INDEX `flag_configurations_by_flag` ON `flag_configurations` (`flag_id`);--> statement-breakpoint
CREATE TABLE `flag_tags` (
	`project_id` text NOT NULL,
	`tag` text NOT NULL,
	`flag_key` text NOT NULL,
	PRIMARY KEY(`project_id`, `tag`, `flag_key`)
);
--> statement-breakpoint
CREATE INDEX `flag_tags_by_flag` ON `flag_tags` (`project_id`,`flag_key`);--> statement-breakpoint
CREATE TABLE `flags` (
	`id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`key` text NOT NULL,
	`name` text NOT NULL,
	`description` text DEFAULT '' NOT NULL,
	`type` text NOT NULL,
	`variations` text NOT NULL,
	`tags` text NOT NULL,
	`owner` text,
	`temporary` integer NOT NULL,
	`client_side` integer NOT NULL,
	`bytes` integer NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`archived_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `flags_by_key` ON `flags` (`project_id`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_name` ON `flags` (`project_id`,`name`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_creation` ON `flags` (`project_id`,`created_at`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_update` ON `flags` (`project_id`,`updated_at`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_owner` ON `flags` (`project_id`,`owner`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_type` ON `flags` (`project_id`,`type`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_temporary` ON `flags` (`project_id`,`temporary`,`key`);--> statement-breakpoint
CREATE INDEX `flags_by_client_side` ON `flags` (`project_id`,`client_side`,`key`);--> statement-breakpoint
CREATE INDEX `flags_archived` ON `flags` (`project_id`,`key`) WHERE archived_at IS NOT NULL;--> statement-breakpoint
CREATE TABLE `idempotency` (
	`token_id` text NOT NULL,
	`key` text NOT NULL,
	`request_hash` text NOT NULL,
	`status` integer NOT NULL,
	`headers` text NOT NULL,
	`body` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`token_id`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_by_age` ON `idempotency` (`created_at`);--> statement-breakpoint
CREATE TABLE `kills` (
	`environment_id` text NOT NULL,
	`flag_key` text NOT NULL,
	`seq` integer NOT NULL,
	`killed` integer NOT NULL,
	`by` text NOT NULL,
	`at` integer NOT NULL,
	`reason` text NOT NULL,
	PRIMARY KEY(`environment_id`, `flag_key`)
);
--> statement-breakpoint
CREATE TABLE `project_edits` (
	`project_id` text NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`project_id`, `version`)
);
--> statement-breakpoint
CREATE INDEX `project_edits_by_age` ON `project_edits` (`created_at`);--> statement-breakpoint
CREATE TABLE `projects` (
	`id` text PRIMARY KEY NOT NULL,
	`key` text NOT NULL,
	`name` text NOT NULL,
	`description` text DEFAULT '' NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `projects_key_unique` ON `projects` (`key`);--> statement-breakpoint
CREATE INDEX `projects_by_name` ON `projects` (`name`,`key`);--> statement-breakpoint
CREATE INDEX `projects_by_creation` ON `projects` (`created_at`,`key`);--> statement-breakpoint
CREATE INDEX `projects_by_update` ON `projects` (`updated_at`,`key`);--> statement-breakpoint
CREATE TABLE `sdk_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`environment_id` text NOT NULL,
	`kind` text NOT NULL,
	`name` text NOT NULL,
	`hash` text NOT NULL,
	`shown` text NOT NULL,
	`origins` text NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`expires_at` integer,
	`revoked_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `sdk_keys_hash_unique` ON `sdk_keys` (`hash`);--> statement-breakpoint
CREATE INDEX `sdk_keys_by_creation` ON `sdk_keys` (`environment_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `sdk_keys_by_update` ON `sdk_keys` (`environment_id`,`updated_at`,`id`);--> statement-breakpoint
CREATE INDEX `sdk_keys_by_name` ON `sdk_keys` (`environment_id`,`name`,`id`);--> statement-breakpoint
CREATE INDEX `sdk_keys_by_kind` ON `sdk_keys` (`environment_id`,`kind`,`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `segment_changes` (
	`environment_id` text NOT NULL,
	`segment_key` text NOT NULL,
	`member` text NOT NULL,
	`present` integer NOT NULL,
	`generation` integer NOT NULL,
	PRIMARY KEY(`environment_id`, `segment_key`, `member`)
);
--> statement-breakpoint
CREATE TABLE `segments` (
	`environment_id` text NOT NULL,
	`key` text NOT NULL,
	`name` text NOT NULL,
	`description` text DEFAULT '' NOT NULL,
	`included` text NOT NULL,
	`excluded` text NOT NULL,
	`rules` text NOT NULL,
	`big` text,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	PRIMARY KEY(`environment_id`, `key`)
);
--> statement-breakpoint
CREATE INDEX `segments_by_name` ON `segments` (`environment_id`,`name`,`key`);--> statement-breakpoint
CREATE INDEX `segments_by_creation` ON `segments` (`environment_id`,`created_at`,`key`);--> statement-breakpoint
CREATE INDEX `segments_by_update` ON `segments` (`environment_id`,`updated_at`,`key`);--> statement-breakpoint
CREATE TABLE `change_request_events` (
	`change_request_id` text NOT NULL,
	`version` integer NOT NULL,
	`kind` text NOT NULL,
	`revision` integer NOT NULL,
	`actor_id` text NOT NULL,
	`actor` text NOT NULL,
	`comment` text,
	`at` integer NOT NULL,
	PRIMARY KEY(`change_request_id`, `version`)
);
--> statement-breakpoint
CREATE TABLE `change_request_revisions` (
	`change_request_id` text NOT NULL,
	`revision` integer NOT NULL,
	`change` text NOT NULL,
	`base` text NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`change_request_id`, `revision`)
);
--> statement-breakpoint
CREATE TABLE `change_request_subjects` (
	`change_request_id` text NOT NULL,
	`project_id` text NOT NULL,
	`kind` text NOT NULL,
	`key` text NOT NULL,
	PRIMARY KEY(`change_request_id`, `kind`, `key`)
);
--> statement-breakpoint
CREATE INDEX `change_request_subjects_by_key` ON `change_request_subjects` (`project_id`,`kind`,`key`);--> statement-breakpoint
CREATE TABLE `change_requests` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`project_id` text NOT NULL,
	`environment_id` text,
	`operation` text NOT NULL,
	`path` text NOT NULL,
	`title` text NOT NULL,
	`description` text NOT NULL,
	`status` text NOT NULL,
	`author_id` text NOT NULL,
	`author` text NOT NULL,
	`revision` integer NOT NULL,
	`version` integer NOT NULL,
	`affected` text NOT NULL,
	`publish_at` integer,
	`attempts` integer NOT NULL,
	`failure` text,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`published_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `change_requests_id_unique` ON `change_requests` (`id`);--> statement-breakpoint
CREATE INDEX `change_requests_by_project` ON `change_requests` (`project_id`,`seq`);--> statement-breakpoint
CREATE INDEX `change_requests_by_status` ON `change_requests` (`project_id`,`status`,`seq`);--> statement-breakpoint
CREATE INDEX `change_requests_by_author` ON `change_requests` (`project_id`,`author_id`,`seq`);--> statement-breakpoint
CREATE INDEX `change_requests_by_environment` ON `change_requests` (`environment_id`);--> statement-breakpoint
CREATE INDEX `change_requests_due` ON `change_requests` (`publish_at`,`id`) WHERE status = 'open';--> statement-breakpoint
CREATE TABLE `kill_reviews` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`project_id` text NOT NULL,
	`environment_id` text NOT NULL,
	`flag_key` text NOT NULL,
	`kill` integer NOT NULL,
	`killed_by_id` text NOT NULL,
	`killed_by` text NOT NULL,
	`killed_at` integer NOT NULL,
	`reason` text NOT NULL,
	`policies` text NOT NULL,
	`version` integer NOT NULL,
	`closed_by_id` text,
	`closed_by` text,
	`closed_at` integer,
	`comment` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `kill_reviews_id_unique` ON `kill_reviews` (`id`);--> statement-breakpoint
CREATE UNIQUE INDEX `kill_reviews_by_kill` ON `kill_reviews` (`environment_id`,`kill`);--> statement-breakpoint
CREATE INDEX `kill_reviews_by_project` ON `kill_reviews` (`project_id`,`seq`);--> statement-breakpoint
CREATE INDEX `kill_reviews_open` ON `kill_reviews` (`project_id`,`seq`) WHERE closed_at IS NULL;--> statement-breakpoint
CREATE TABLE `policies` (
	`id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`key` text NOT NULL,
	`name` text NOT NULL,
	`description` text DEFAULT '' NOT NULL,
	`enabled` integer NOT NULL,
	`environments` text NOT NULL,
	`tags` text NOT NULL,
	`share` integer NOT NULL,
	`approvers` text NOT NULL,
	`approvals` integer NOT NULL,
	`bypass` text,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `policies_by_key` ON `policies` (`project_id`,`key`);--> statement-breakpoint
CREATE TABLE `policy_edits` (
	`project_id` text NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	PRIMARY KEY(`project_id`, `version`)
);
--> statement-breakpoint
CREATE INDEX `policy_edits_by_age` ON `policy_edits` (`created_at`);--> statement-breakpoint
CREATE TABLE `audit` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`timestamp` integer NOT NULL,
	`actor` text NOT NULL,
	`token_id` text,
	`action` text NOT NULL,
	`resource_type` text NOT NULL,
	`project` text,
	`environment` text,
	`key` text NOT NULL,
	`changes` text NOT NULL,
	`source_ip` text,
	`user_agent` text,
	`correlation_id` text NOT NULL,
	`reason` text,
	`reverts` integer,
	`change_request` text,
	`schedule` text,
	`ramp` text,
	`bypassed` text,
	`mirror_id` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `audit_mirror_id_unique` ON `audit` (`mirror_id`);--> statement-breakpoint
CREATE INDEX `audit_by_time` ON `audit` (`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_project` ON `audit` (`project`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_place` ON `audit` (`project`,`environment`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_environment` ON `audit` (`environment`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_type` ON `audit` (`resource_type`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_key` ON `audit` (`key`);--> statement-breakpoint
CREATE INDEX `audit_by_action` ON `audit` (`action`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_actor` ON `audit` (`actor`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_token` ON `audit` (`token_id`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_by_correlation` ON `audit` (`correlation_id`,`timestamp`);--> statement-breakpoint
CREATE INDEX `audit_with_reason` ON `audit` (`timestamp`) WHERE reason IS NOT NULL;--> statement-breakpoint
CREATE TABLE `audit_undo` (
	`audit_id` integer NOT NULL,
	`kind` text NOT NULL,
	`key` text NOT NULL,
	`environment` text NOT NULL,
	`undo` text NOT NULL,
	PRIMARY KEY(`audit_id`, `kind`, `key`, `environment`)
);
--> statement-breakpoint
CREATE INDEX `audit_undo_by_key` ON `audit_undo` (`key`);--> statement-breakpoint
CREATE TABLE `ramps` (
	`id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`environment_id` text NOT NULL,
	`flag_id` text NOT NULL,
	`flag_key` text NOT NULL,
	`reason` text,
	`actor` text NOT NULL,
	`token_id` text,
	`attempts` integer DEFAULT 0 NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`rule_id` text NOT NULL,
	`variation` text NOT NULL,
	`others` text,
	`steps` text NOT NULL,
	`guards` text NOT NULL,
	`status` text NOT NULL,
	`step` integer NOT NULL,
	`serves` text NOT NULL,
	`next_at` integer,
	`remaining_ms` integer,
	`pause` text,
	`kill_seq` integer NOT NULL,
	`change_request_id` text,
	`ended_at` integer,
	`restored` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `ramps_at_work` ON `ramps` (`environment_id`,`flag_id`,`rule_id`) WHERE status IN ('running', 'paused');--> statement-breakpoint
CREATE INDEX `ramps_by_creation` ON `ramps` (`project_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `ramps_by_flag` ON `ramps` (`environment_id`,`flag_key`,`created_at`);--> statement-breakpoint
CREATE INDEX `ramps_due` ON `ramps` (`next_at`,`id`) WHERE status = 'running';--> statement-breakpoint
CREATE TABLE `schedules` (
	`id` text PRIMARY KEY NOT NULL,
	`project_id` text NOT NULL,
	`environment_id` text NOT NULL,
	`flag_id` text NOT NULL,
	`flag_key` text NOT NULL,
	`reason` text,
	`actor` text NOT NULL,
	`token_id` text,
	`attempts` integer DEFAULT 0 NOT NULL,
	`version` integer NOT NULL,
	`created_at` integer NOT NULL,
	`updated_at` integer NOT NULL,
	`at` integer NOT NULL,
	`edit` text NOT NULL,
	`status` text NOT NULL,
	`ended_at` integer,
	`failure` text
);
--> statement-breakpoint
CREATE INDEX `schedules_by_time` ON `schedules` (`project_id`,`at`,`id`);--> statement-breakpoint
CREATE INDEX `schedules_by_creation` ON `schedules` (`project_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `schedules_by_flag` ON `schedules` (`environment_id`,`flag_key`,`at`);--> statement-breakpoint
CREATE INDEX `schedules_pending` ON `schedules` (`environment_id`,`flag_id`) WHERE status = 'pending';--> statement-breakpoint
CREATE INDEX `schedules_due` ON `schedules` (`at`,`id`) WHERE status = 'pending';