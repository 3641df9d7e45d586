-- A role for `steersman worker`, with the least that running scripts takes: run once by the owner of the tables, after
-- `steersman migrate`, and again after each migration. Give the role a password before: CREATE ROLE steersman_worker LOGIN …
--
-- It sees no token, no session, no state of Deployments, and of secrets only what is sealed, to the server or to a
-- worker. What it could spoil is the state of jobs that run.

GRANT USAGE ON SCHEMA public TO steersman_worker;

-- what is to be run
GRANT SELECT ON alembic_version, jobs, specifications, tasks, trials, scripts, orders, resources,
    commits, arcs, branches, attachments TO steersman_worker;

-- what came of it
GRANT UPDATE (state, started_at, version) ON jobs TO steersman_worker;
GRANT UPDATE (state, reason) ON tasks TO steersman_worker;
GRANT UPDATE ON trials, scripts TO steersman_worker;
GRANT INSERT, UPDATE ON attachments TO steersman_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON contents, content_chunks, logs, log_chunks TO steersman_worker;
GRANT SELECT (id, version, chain_head), UPDATE (version, chain_head) ON meta TO steersman_worker;
GRANT SELECT (seq) ON events TO steersman_worker;

-- that it is there, and never as a daemon: the others hand requests, with the credentials of those who send them, to the
-- address of the one that leads
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO steersman_worker;
ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS all_rows ON workers;
CREATE POLICY all_rows ON workers USING (true) WITH CHECK (true);
DROP POLICY IF EXISTS no_daemon_is_made ON workers;
CREATE POLICY no_daemon_is_made ON workers AS RESTRICTIVE FOR INSERT TO steersman_worker
    WITH CHECK (kind = 'worker' AND address IS NULL AND NOT leads);
DROP POLICY IF EXISTS no_daemon_is_changed ON workers;
CREATE POLICY no_daemon_is_changed ON workers AS RESTRICTIVE FOR UPDATE TO steersman_worker
    USING (kind = 'worker') WITH CHECK (kind = 'worker' AND address IS NULL AND NOT leads);
DROP POLICY IF EXISTS no_daemon_goes ON workers;
CREATE POLICY no_daemon_goes ON workers AS RESTRICTIVE FOR DELETE TO steersman_worker USING (kind = 'worker');

-- Procrastinate, which brings it its trials
GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_workers TO steersman_worker;
GRANT SELECT, UPDATE, DELETE ON procrastinate_jobs TO steersman_worker;
GRANT SELECT, INSERT ON procrastinate_events TO steersman_worker;
GRANT SELECT, UPDATE ON procrastinate_periodic_defers TO steersman_worker;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO steersman_worker;
