#include "node_life.h"

#include "disk.h"

namespace loam::simulation {

NodeLife::NodeLife(World& world, Witness& witness) : world_(world), witness_(witness) {
  Disk::instance().process_starts();
  auto opened = node::Database::open(kDatabase, node::migrations());
  if (!opened) {
    world_.broken("the database does not open: " + opened.error().text);
    throw NodeKilled{};
  }
  database_ = std::move(*opened);
  usage_ = std::make_unique<node::Usage>(*database_);
  node::NodeContext context;
  context.paths.attempts = "attempts";
  context.cgroups.v2 = "simulated";
  supervisor_ = std::make_unique<node::Supervisor>(
      loop_, *database_, context,
      node::Supervisor::Events{[this](node::AttemptId id) {
                                 world_.say("node: attempt " + std::to_string(id) + " runs");
                               },
                               [this](node::AttemptId id, const api::ExitRecord& record,
                                      bool reboot) { on_exit(id, record, reboot); }},
      "loam-shim");
  world_.say("a node starts");
  loop_.post([this] {
    database_->write("DELETE FROM device_drains WHERE who <> ?",
                     {"boot-" + std::to_string(world_.boots)});
    supervisor_->recover([this] {
      world_.say("node: recovered");
      recovered_ = true;
    });
  });
}

// As its death: nothing that its parts do while they go has an effect on the disk.
NodeLife::~NodeLife() {
  Disk::instance().process_dies();
  supervisor_.reset();
}

void NodeLife::submit() {
  if (!recovered_) return;
  loop_.post([this] {
    const auto id = database_->insert("INSERT INTO jobs (kind, state) VALUES ('step', 'queued')");
    database_->after_commit([this, id] {
      witness_.acknowledged.insert(id);
      world_.say("job " + std::to_string(id) + " is acknowledged");
    });
  });
}

std::set<int> NodeLife::taken_devices() {
  std::set<int> taken;
  for (const node::Row& row :
       database_->query("SELECT placement FROM attempts WHERE state <> 'ended'"))
    taken.insert(static_cast<int>(row.json(0)["device"].as_int()));
  for (const node::Row& row : database_->query("SELECT device FROM device_drains"))
    taken.insert(std::stoi(row.text(0)));
  return taken;
}

void NodeLife::start_what_can() {
  if (!recovered_) return;
  const auto waiting =
      database_->query("SELECT id FROM jobs WHERE state = 'queued' ORDER BY id LIMIT 1");
  if (waiting.empty()) return;
  const std::set<int> taken = taken_devices();
  for (int device = 0; device < kDevices; ++device) {
    if (taken.contains(device)) continue;
    const std::int64_t job = waiting[0].integer(0);
    api::AttemptPlan plan;
    plan.argv = {std::to_string(job), std::to_string(device)};
    database_->write("UPDATE jobs SET state = 'running' WHERE id = ?", {job});
    supervisor_->start(
        job, std::move(plan), {}, [](const std::string&) { return Result<void>(); },
        Json::object({{"device", device}}));
    return;
  }
}

void NodeLife::stop_something(api::Outcome why) {
  if (!recovered_) return;
  loop_.post([this, why] {
    const auto open = database_->query("SELECT id FROM attempts WHERE state <> 'ended'");
    if (open.empty()) return;
    const auto id = open[world_.random.below(open.size())].integer(0);
    world_.say("attempt " + std::to_string(id) +
               " is to end: " + std::string(api::outcome_name(why)));
    why == api::Outcome::signaled ? supervisor_->kill(id) : supervisor_->stop(id, why);
  });
}

// What the record says against what happened.
void NodeLife::judge(node::AttemptId id, const api::ExitRecord& record, bool reboot) {
  const std::string name = std::to_string(id), text = api::to_json(record).dump();
  const auto group = world_.groups.find(name);
  const bool lives = group != world_.groups.end() && group->second.populated;
  if (lives && record.outcome != api::Outcome::unkillable)
    world_.broken("attempt " + name + " has ended and its processes live");
  for (const auto& shim : world_.shims)
    if (shim->attempt == name && shim->state == Shim::State::forked)
      world_.broken("attempt " + name + " has ended before its shim began");
  if (reboot) return;
  const auto durable = world_.durable.find(name), told = world_.told.find(name);
  if (durable != world_.durable.end()) {
    if (durable->second != text)
      world_.broken("attempt " + name + ": recorded " + text + ", was " + durable->second);
  } else if (told == world_.told.end() || told->second != text) {
    const bool nodes_own =
        record.outcome == api::Outcome::lost || record.outcome == api::Outcome::unkillable ||
        record.outcome == api::Outcome::failed_to_start ||
        (!world_.began.contains(name) &&
         (record.outcome == api::Outcome::cancelled || record.outcome == api::Outcome::preempted));
    if (!nodes_own) world_.broken("attempt " + name + ": recorded " + text + ", which nobody said");
    if (record.outcome == api::Outcome::failed_to_start && world_.began.contains(name))
      world_.broken("attempt " + name + " ran and is recorded as never started");
  }
}

void NodeLife::on_exit(node::AttemptId id, const api::ExitRecord& record, bool reboot) {
  world_.say("node: attempt " + std::to_string(id) +
             " ended: " + std::string(api::outcome_name(record.outcome)));
  judge(id, record, reboot);
  const auto view = supervisor_->find(id);
  usage_->record({.account = "default",
                  .user = "somebody",
                  .started_ms = view->created_ms,
                  .ended_ms = view->ended_ms,
                  .cpu_milli = 1000,
                  .memory_mib = 1,
                  .devices = {},
                  .rate = 1});
  const bool again = record.outcome == api::Outcome::lost ||
                     record.outcome == api::Outcome::preempted ||
                     record.outcome == api::Outcome::failed_to_start;
  database_->write("UPDATE jobs SET state = ? WHERE id = ?",
                   {std::string(again ? "queued" : "ended"), view->job});
  if (record.outcome == api::Outcome::unkillable)
    database_->write("INSERT OR REPLACE INTO device_drains VALUES (?, 'unkillable', ?, 0)",
                     {std::to_string(view->placement["device"].as_int()),
                      "boot-" + std::to_string(world_.boots)});
  database_->after_commit([this, id, text = api::to_json(record).dump()] {
    if (++witness_.exits[id] > 1)
      world_.broken("the exit of attempt " + std::to_string(id) + " is recorded twice");
    witness_.ended_as[id] = text;
    world_.say("node: the end of attempt " + std::to_string(id) + " is committed");
  });
}

bool NodeLife::step() {
  const bool did = loop_.impl().step();
  if (!did || world_.random.one_in(3)) start_what_can();
  if (world_.random.one_in(2)) end_turn();
  return did;
}

// A commit that fails is fail-stop, as node_main has it.
void NodeLife::end_turn() {
  if (const auto committed = database_->commit_turn(); !committed) {
    world_.say("node: fail-stop: " + committed.error().text);
    throw NodeKilled{};
  }
}

void NodeLife::check() {
  if (Disk::instance().dead || database_->turn_open()) return;
  const auto count = database_->query("SELECT count(*) FROM jobs")[0].integer(0);
  if (count < static_cast<std::int64_t>(witness_.acknowledged.size()))
    world_.broken("an acknowledged job is not in the database");
  // Intent before act: nothing runs that the database does not know.
  for (const auto& shim : world_.shims)
    if (database_
            ->query("SELECT 1 FROM attempts WHERE id = ?",
                    {std::int64_t{std::stoll(shim->attempt)}})
            .empty())
      world_.broken("attempt " + shim->attempt + " has a shim and no row");
}

bool NodeLife::at_rest() {
  return recovered_ && !database_->turn_open() && world_.shims.empty() &&
         database_->query("SELECT 1 FROM jobs WHERE state <> 'ended' LIMIT 1").empty() &&
         database_->query("SELECT 1 FROM attempts WHERE state <> 'ended' LIMIT 1").empty();
}

bool NodeLife::all_drained() {
  return database_->query("SELECT count(*) FROM device_drains")[0].integer(0) >= kDevices;
}

void NodeLife::check_at_rest() {
  for (const std::int64_t id : witness_.acknowledged)
    if (database_->query("SELECT 1 FROM jobs WHERE id = ?", {id}).empty())
      world_.broken("acknowledged job " + std::to_string(id) + " is lost");
  for (const auto& [id, text] : witness_.ended_as) {
    const auto rows =
        database_->query("SELECT exit FROM attempts WHERE id = ? AND state = 'ended'", {id});
    if (rows.empty() || rows[0].text(0) != text)
      world_.broken("the recorded end of attempt " + std::to_string(id) + " changed");
  }
  std::int64_t counted = 0;
  for (const node::UsageTotal& total : usage_->totals(0)) {
    counted += total.attempts;
    if (total.cpu_milli_ms < 0 || total.memory_mib_ms < 0) world_.broken("usage is negative");
  }
  const auto ended =
      database_->query("SELECT count(*) FROM attempts WHERE state = 'ended'")[0].integer(0);
  if (counted != ended)
    world_.broken("usage counts " + std::to_string(counted) + " attempts, " +
                  std::to_string(ended) + " have ended");
  for (const auto& [name, group] : world_.groups)
    if (group.populated && !group.unkillable)
      world_.broken("at rest processes of attempt " + name + " live");
}

}  // namespace loam::simulation
