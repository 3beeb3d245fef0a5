#include "store/sqlite_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <mutex>
#include <utility>

#include "base/status.h"
#include "store/open.h"
#include "store/rows.h"
#include "store/statement.h"

namespace sealift::store {
namespace {

absl::Status NotFound(std::string_view kind, std::string_view name) {
  return absl::NotFoundError(fmt::format("{} \"{}\" is not known", kind, name));
}

// ExpectOne turns "no row changed" into NOT_FOUND.
absl::Status ExpectOne(const absl::StatusOr<int>& changed, std::string_view kind,
                       std::string_view name) {
  SEALIFT_RETURN_IF_ERROR(changed.status());
  return *changed > 0 ? absl::OkStatus() : NotFound(kind, name);
}

// NameTaken replaces the database's own words for a unique constraint.
absl::Status NameTaken(const absl::Status& status, const std::string& text) {
  return absl::IsAlreadyExists(status) ? absl::AlreadyExistsError(text) : status;
}

class SqliteStore final : public Store {
 public:
  explicit SqliteStore(OwnedDatabase database)
      : owned_(std::move(database)), db_(owned_.database.get()) {}

  absl::Status CreateHost(const HostRow& host) override {
    const std::lock_guard lock(mutex_);
    Statement insert(db_, kInsertHost);
    insert.Bind(host.name, host.address, host.certificate_serial, host.certificate_not_after,
                host.created, host.last_seen, host.group, host.draining, host.dead_since,
                host.unheard, host.written_off);
    return NameTaken(insert.Run().status(), fmt::format("host \"{}\" exists already", host.name));
  }

  absl::Status UpdateHost(const HostRow& host) override {
    const std::lock_guard lock(mutex_);
    Statement update(db_,
                     "UPDATE hosts SET address = ?, certificate_serial = ?, "
                     "certificate_not_after = ?, last_seen = ?, draining = ?, dead_since = ?, "
                     "unheard = ?, written_off = ? WHERE name = ?");
    update.Bind(host.address, host.certificate_serial, host.certificate_not_after, host.last_seen,
                host.draining, host.dead_since, host.unheard, host.written_off, host.name);
    return ExpectOne(update.Run(), "host", host.name);
  }

  absl::StatusOr<HostRow> GetHost(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    return FindHost(name);
  }

  absl::StatusOr<std::vector<HostRow>> ListHosts() override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT * FROM hosts ORDER BY name");
    return AllRows<HostRow>(select);
  }

  absl::Status DeleteHost(const std::string& name, std::int64_t now) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const HostRow host, FindHost(name));
    SEALIFT_RETURN_IF_ERROR(CheckHostUnused(name));
    if (!host.certificate_serial.empty()) {
      SEALIFT_RETURN_IF_ERROR(Revoke(host.certificate_serial, now));
    }
    Statement remove(db_, "DELETE FROM hosts WHERE name = ?");
    SEALIFT_RETURN_IF_ERROR(remove.Bind(name).Run().status());
    return transaction.Commit();
  }

  absl::Status SetHostGroup(const std::string& host, const std::string& group) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    Statement update(db_, "UPDATE hosts SET host_group = ? WHERE name = ?");
    SEALIFT_RETURN_IF_ERROR(ExpectOne(update.Bind(group, host).Run(), "host", host));
    Statement vms(db_, "UPDATE vms SET policy_version = policy_version + 1 WHERE host = ?");
    SEALIFT_RETURN_IF_ERROR(vms.Bind(host).Run().status());
    return transaction.Commit();
  }

  absl::Status PutPolicy(const PolicyRow& policy) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    Statement remove(db_, "DELETE FROM policies WHERE host_group = ?");
    SEALIFT_RETURN_IF_ERROR(remove.Bind(policy.group).Run().status());
    if (!policy.floor.empty() || !policy.default_mode.empty()) {
      Statement insert(db_, "INSERT INTO policies VALUES (?, ?, ?)");
      SEALIFT_RETURN_IF_ERROR(
          insert.Bind(policy.group, policy.floor, policy.default_mode).Run().status());
    }
    SEALIFT_RETURN_IF_ERROR(Execute(db_, "UPDATE vms SET policy_version = policy_version + 1"));
    return transaction.Commit();
  }

  absl::StatusOr<std::vector<PolicyRow>> ListPolicies() override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT * FROM policies ORDER BY host_group");
    return AllRows<PolicyRow>(select);
  }

  absl::Status CreateUser(const UserRow& user) override {
    const std::lock_guard lock(mutex_);
    Statement insert(db_, "INSERT INTO users VALUES (?, ?, ?, ?, ?)");
    insert.Bind(user.name, user.role, user.rights, user.created, user.request_sha256);
    return NameTaken(insert.Run().status(), fmt::format("user \"{}\" exists already", user.name));
  }

  absl::StatusOr<std::vector<UserRow>> ListUsers() override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT * FROM users ORDER BY name");
    return AllRows<UserRow>(select);
  }

  absl::Status DeleteUser(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    Statement remove(db_, "DELETE FROM users WHERE name = ?");
    return ExpectOne(remove.Bind(name).Run(), "user", name);
  }

  absl::Status PutUserCertificate(const UserCertificateRow& certificate,
                                  std::int64_t now) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    Statement expired(db_, "DELETE FROM user_certificates WHERE user = ? AND not_after < ?");
    SEALIFT_RETURN_IF_ERROR(expired.Bind(certificate.user, now).Run().status());
    Statement insert(db_, "INSERT INTO user_certificates VALUES (?, ?, ?)");
    insert.Bind(certificate.serial, certificate.user, certificate.not_after);
    const absl::Status status = insert.Run().status();
    if (absl::IsNotFound(status)) return NotFound("user", certificate.user);
    SEALIFT_RETURN_IF_ERROR(status);
    return transaction.Commit();
  }

  absl::StatusOr<std::optional<UserRow>> FindUser(const std::string& certificate_serial) override {
    const std::lock_guard lock(mutex_);
    Statement select(db_,
                     "SELECT users.* FROM users JOIN user_certificates ON user = name "
                     "WHERE serial = ?");
    return FirstRow<UserRow>(select.Bind(certificate_serial));
  }

  absl::Status PutJoinToken(const JoinTokenRow& token) override {
    const std::lock_guard lock(mutex_);
    Statement insert(db_, "INSERT OR REPLACE INTO join_tokens VALUES (?, ?, ?)");
    const absl::Status status =
        insert.Bind(token.host, token.secret_sha256, token.expires).Run().status();
    return absl::IsNotFound(status) ? NotFound("host", token.host) : status;
  }

  absl::Status TakeJoinToken(const std::string& host, const std::string& secret_sha256,
                             std::int64_t now) override {
    const std::lock_guard lock(mutex_);
    Statement remove(
        db_, "DELETE FROM join_tokens WHERE host = ? AND secret_sha256 = ? AND expires > ?");
    SEALIFT_ASSIGN_OR_RETURN(const int removed, remove.Bind(host, secret_sha256, now).Run());
    if (removed == 1) return absl::OkStatus();
    return absl::NotFoundError(fmt::format(
        "no such join token for host \"{}\": it was used, has expired or belongs to another "
        "host",
        host));
  }

  absl::Status RevokeCertificate(const std::string& serial, std::int64_t now) override {
    const std::lock_guard lock(mutex_);
    return Revoke(serial, now);
  }

  absl::StatusOr<bool> IsRevoked(const std::string& serial) override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT 1 FROM revoked_certificates WHERE serial = ?");
    return select.Bind(serial).Step();
  }

  absl::StatusOr<VmRow> CreateVm(const VmRow& vm) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    VmRow row = vm;
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t past, FindPastEpoch(vm.name));
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t next, EpochAfter(past));
    row.epoch = std::max(vm.epoch, next);
    SEALIFT_RETURN_IF_ERROR(Insert(row));
    SEALIFT_RETURN_IF_ERROR(transaction.Commit());
    return row;
  }

  absl::Status AdoptVm(const std::optional<VmRow>& before, const VmRow& vm) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    if (before) {
      Statement remove(db_, "DELETE FROM vms WHERE name = ? AND epoch = ? AND policy_version = ?");
      SEALIFT_ASSIGN_OR_RETURN(
          const int removed,
          remove.Bind(before->name, before->epoch, before->policy_version).Run());
      if (removed == 0) {
        return absl::AbortedError(
            fmt::format("VM \"{}\" has changed while it was compared", before->name));
      }
    }
    SEALIFT_RETURN_IF_ERROR(Insert(vm));
    return transaction.Commit();
  }

  absl::Status UpdateVms(const std::vector<VmUpdate>& updates) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    for (const VmUpdate& vm : updates) {
      Statement update(db_,
                       "UPDATE vms SET definition = ?, encryption = ?, "
                       "policy_version = policy_version + 1 WHERE name = ?");
      SEALIFT_RETURN_IF_ERROR(update.Bind(vm.definition, vm.encryption, vm.name).Run().status());
    }
    return transaction.Commit();
  }

  absl::Status MoveVm(const std::string& name, std::uint64_t expected_epoch,
                      const std::string& host) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t next, EpochAfter(expected_epoch));
    SEALIFT_RETURN_IF_ERROR(Move(name, expected_epoch, host, next));
    return transaction.Commit();
  }

  absl::StatusOr<VmRow> GetVm(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    return FindVm(name);
  }

  absl::StatusOr<std::vector<VmRow>> ListVms() override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT * FROM vms ORDER BY name");
    return AllRows<VmRow>(select);
  }

  absl::Status DeleteVm(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const std::optional<MigrationRow> running, FindRunning(name));
    if (running) {
      return absl::FailedPreconditionError(fmt::format(
          "VM \"{}\" is being migrated (migration {}): wait for its end", name, running->id));
    }
    SEALIFT_ASSIGN_OR_RETURN(const VmRow vm, FindVm(name));
    Statement remember(db_, "INSERT OR REPLACE INTO past_epochs VALUES (?, ?)");
    SEALIFT_RETURN_IF_ERROR(remember.Bind(name, vm.epoch).Run().status());
    Statement remove(db_, "DELETE FROM vms WHERE name = ?");
    SEALIFT_RETURN_IF_ERROR(remove.Bind(name).Run().status());
    return transaction.Commit();
  }

  absl::StatusOr<std::uint64_t> PastEpoch(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    return FindPastEpoch(name);
  }

  absl::Status CreateMigration(const MigrationRow& migration) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_RETURN_IF_ERROR(FindVm(migration.vm).status());
    Statement insert(db_, kInsertMigration);
    insert.Bind(migration.id, migration.request_id, migration.vm, migration.source,
                migration.destination, migration.requested_by, migration.mode, migration.started);
    BindProgress(insert, migration);
    insert.Bind(migration.on_no_convergence, migration.receipt);
    const absl::Status status = insert.Run().status();
    if (absl::IsAlreadyExists(status)) return WhyMigrationExists(migration);
    SEALIFT_RETURN_IF_ERROR(status);
    return transaction.Commit();
  }

  absl::Status UpdateMigration(const MigrationRow& migration) override {
    const std::lock_guard lock(mutex_);
    return WriteProgress(migration);
  }

  absl::Status FinishMove(const MigrationRow& migration, std::uint64_t expected_epoch) override {
    if (migration.ended == 0) {
      return absl::InvalidArgumentError(
          fmt::format("migration {} is to be finished without the time of its end", migration.id));
    }
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const MigrationRow before, FindMigration(migration.id));
    SEALIFT_ASSIGN_OR_RETURN(const VmRow vm, FindVm(before.vm));
    const bool repeated = before.ended != 0 && before.phase == migration.phase;
    if (repeated && vm.epoch > expected_epoch) return absl::OkStatus();
    SEALIFT_RETURN_IF_ERROR(
        Move(before.vm, expected_epoch, before.destination, expected_epoch + 1));
    SEALIFT_RETURN_IF_ERROR(WriteProgress(migration));
    return transaction.Commit();
  }

  absl::Status VoidMove(const MigrationRow& migration, std::uint64_t promised_epoch) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t above, EpochAfter(promised_epoch));
    Statement raise(db_, "UPDATE vms SET epoch = max(epoch, ?) WHERE name = ?");
    SEALIFT_RETURN_IF_ERROR(raise.Bind(above, migration.vm).Run().status());
    SEALIFT_RETURN_IF_ERROR(WriteProgress(migration));
    return transaction.Commit();
  }

  absl::StatusOr<MigrationRow> GetMigration(const std::string& id) override {
    const std::lock_guard lock(mutex_);
    return FindMigration(id);
  }

  absl::StatusOr<std::optional<MigrationRow>> FindMigrationByRequest(
      const std::string& request_id) override {
    const std::lock_guard lock(mutex_);
    if (request_id.empty()) return std::optional<MigrationRow>();
    Statement select(db_, SEALIFT_SELECT_MIGRATION "WHERE request_id = ?");
    return FirstRow<MigrationRow>(select.Bind(request_id));
  }

  absl::StatusOr<std::optional<MigrationRow>> FindRunningMigration(const std::string& vm) override {
    const std::lock_guard lock(mutex_);
    return FindRunning(vm);
  }

  absl::StatusOr<std::vector<MigrationRow>> ListMigrations(const MigrationFilter& filter) override {
    constexpr std::int64_t kNoEnd = std::numeric_limits<std::int64_t>::max();
    const std::int64_t until = filter.until == 0 ? kNoEnd : filter.until;
    const std::int64_t limit = filter.limit == 0 ? kNoEnd : static_cast<std::int64_t>(filter.limit);
    const std::lock_guard lock(mutex_);
    if (filter.vm.empty()) {
      Statement select(db_, SEALIFT_SELECT_MIGRATION
                       "WHERE started >= ? AND started < ? AND encrypted <= ? "
                       "ORDER BY number DESC LIMIT ?");
      return AllRows<MigrationRow>(select.Bind(filter.since, until, !filter.in_the_clear, limit));
    }
    Statement select(db_, SEALIFT_SELECT_MIGRATION
                     "WHERE vm = ? AND started >= ? AND started < ? AND encrypted <= ? "
                     "ORDER BY number DESC LIMIT ?");
    return AllRows<MigrationRow>(
        select.Bind(filter.vm, filter.since, until, !filter.in_the_clear, limit));
  }

  absl::StatusOr<MigrationCounts> CountMigrations() override {
    const std::lock_guard lock(mutex_);
    Statement select(db_, "SELECT count(*), total(encrypted = 0) FROM migrations");
    MigrationCounts counts;
    SEALIFT_RETURN_IF_ERROR(select.Step().status());
    select.Column(counts.all);
    select.Column(counts.in_the_clear);
    return counts;
  }

  absl::Status MarkRestored(const RestoreRow& restore) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    Statement insert(db_, "INSERT INTO restores VALUES (?, ?)");
    SEALIFT_RETURN_IF_ERROR(insert.Bind(restore.time, restore.backup_made).Run().status());
    SEALIFT_RETURN_IF_ERROR(
        Execute(db_, "UPDATE hosts SET unheard = 1, dead_since = 0, written_off = 0"));
    SEALIFT_RETURN_IF_ERROR(Execute(db_, "UPDATE vms SET unconfirmed = 1"));
    SEALIFT_RETURN_IF_ERROR(Execute(db_, "DELETE FROM join_tokens"));
    return transaction.Commit();
  }

  absl::StatusOr<std::optional<RestoreRow>> LastRestore() override {
    const std::lock_guard lock(mutex_);
    return FindRestore();
  }

  absl::Status WriteOffUnheard() override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t floor, EpochAfter(0));
    SEALIFT_RETURN_IF_ERROR(Execute(db_,
                                    "UPDATE vms SET unconfirmed = 0 WHERE host IN "
                                    "(SELECT name FROM hosts WHERE unheard AND dead_since <> 0)"));
    Statement raise(db_,
                    "UPDATE vms SET epoch = max(epoch + 1, ?) WHERE name NOT IN "
                    "(SELECT vm FROM migrations WHERE ended = 0)");
    SEALIFT_RETURN_IF_ERROR(raise.Bind(floor).Run().status());
    SEALIFT_RETURN_IF_ERROR(Execute(db_, "UPDATE hosts SET unheard = 0 WHERE dead_since <> 0"));
    return transaction.Commit();
  }

  absl::Status AddEvents(const std::vector<EventRow>& events) override {
    const std::lock_guard lock(mutex_);
    Transaction transaction(db_);
    SEALIFT_RETURN_IF_ERROR(transaction.Begin());
    for (const EventRow& event : events) {
      Statement insert(
          db_, "INSERT INTO events (time, type, subject, actor, text) VALUES (?, ?, ?, ?, ?)");
      insert.Bind(event.time, event.type, event.subject, event.actor, event.text);
      SEALIFT_RETURN_IF_ERROR(insert.Run().status());
    }
    return transaction.Commit();
  }

  absl::StatusOr<std::vector<EventRow>> ListEvents(std::int64_t after, std::size_t limit,
                                                   const std::string& subject) override {
    const std::lock_guard lock(mutex_);
    if (subject.empty()) {
      Statement select(db_,
                       "SELECT * FROM (SELECT * FROM events WHERE number > ? "
                       "ORDER BY number DESC LIMIT ?) ORDER BY number");
      return AllRows<EventRow>(select.Bind(after, limit));
    }
    Statement select(db_,
                     "SELECT * FROM (SELECT * FROM events WHERE subject = ? AND number > ? "
                     "ORDER BY number DESC LIMIT ?) ORDER BY number");
    return AllRows<EventRow>(select.Bind(subject, after, limit));
  }

 private:
  // All below: the caller holds the mutex.

  absl::StatusOr<HostRow> FindHost(const std::string& name) {
    Statement select(db_, "SELECT * FROM hosts WHERE name = ?");
    return OnlyRow<HostRow>(select.Bind(name), NotFound("host", name));
  }

  absl::StatusOr<VmRow> FindVm(const std::string& name) {
    Statement select(db_, "SELECT * FROM vms WHERE name = ?");
    return OnlyRow<VmRow>(select.Bind(name), NotFound("VM", name));
  }

  absl::Status Insert(const VmRow& vm) {
    Statement insert(db_, kInsertVm);
    insert.Bind(vm.name, vm.uuid, vm.host, vm.epoch, vm.definition, vm.encryption,
                vm.policy_version, vm.created, vm.unconfirmed);
    const absl::Status status = insert.Run().status();
    if (absl::IsNotFound(status)) return NotFound("host", vm.host);
    return NameTaken(
        status, fmt::format("a VM with name \"{}\" or uuid {} exists already", vm.name, vm.uuid));
  }

  absl::StatusOr<std::uint64_t> FindPastEpoch(const std::string& vm) {
    Statement select(db_, "SELECT epoch FROM past_epochs WHERE vm = ?");
    SEALIFT_ASSIGN_OR_RETURN(const bool found, select.Bind(vm).Step());
    std::uint64_t epoch = 0;
    if (found) select.Column(epoch);
    return epoch;
  }

  absl::StatusOr<std::optional<RestoreRow>> FindRestore() {
    Statement select(db_, "SELECT * FROM restores ORDER BY time DESC LIMIT 1");
    return FirstRow<RestoreRow>(select);
  }

  // A store that was lost gave out epochs after this copy of it was made. It did not give out as
  // many as there are milliseconds since 1970.
  absl::StatusOr<std::uint64_t> EpochAfter(std::uint64_t epoch) {
    SEALIFT_ASSIGN_OR_RETURN(const std::optional<RestoreRow> restore, FindRestore());
    const std::uint64_t floor = restore ? static_cast<std::uint64_t>(restore->time) : 0;
    return std::max(epoch + 1, floor);
  }

  absl::StatusOr<MigrationRow> FindMigration(const std::string& id) {
    Statement select(db_, SEALIFT_SELECT_MIGRATION "WHERE id = ?");
    return OnlyRow<MigrationRow>(select.Bind(id), NotFound("migration", id));
  }

  absl::StatusOr<std::optional<MigrationRow>> FindRunning(const std::string& vm) {
    Statement select(db_, SEALIFT_SELECT_MIGRATION "WHERE vm = ? AND ended = 0");
    return FirstRow<MigrationRow>(select.Bind(vm));
  }

  absl::Status CheckHostUnused(const std::string& name) {
    Statement vms(db_, "SELECT * FROM vms WHERE host = ? ORDER BY name LIMIT 1");
    SEALIFT_ASSIGN_OR_RETURN(const std::optional<VmRow> vm, FirstRow<VmRow>(vms.Bind(name)));
    if (vm) {
      return absl::FailedPreconditionError(fmt::format(
          "host \"{}\" owns VMs, \"{}\" among them: move or delete them first", name, vm->name));
    }
    Statement migrations(
        db_, SEALIFT_SELECT_MIGRATION "WHERE ended = 0 AND (source = ? OR destination = ?)");
    SEALIFT_ASSIGN_OR_RETURN(const std::optional<MigrationRow> running,
                             FirstRow<MigrationRow>(migrations.Bind(name, name)));
    if (!running) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("host \"{}\" takes part in migration {} of VM \"{}\": wait for its end", name,
                    running->id, running->vm));
  }

  absl::Status Revoke(const std::string& serial, std::int64_t now) {
    Statement insert(db_, "INSERT OR IGNORE INTO revoked_certificates VALUES (?, ?)");
    return insert.Bind(serial, now).Run().status();
  }

  absl::Status Move(const std::string& name, std::uint64_t expected_epoch, const std::string& host,
                    std::uint64_t next_epoch) {
    SEALIFT_ASSIGN_OR_RETURN(const VmRow vm, FindVm(name));
    if (vm.epoch != expected_epoch) {
      return absl::AbortedError(fmt::format(
          "VM \"{}\" has epoch {} at host \"{}\", not {} as expected: its owner has changed", name,
          vm.epoch, vm.host, expected_epoch));
    }
    Statement update(db_, "UPDATE vms SET host = ?, epoch = ?, unconfirmed = 0 WHERE name = ?");
    const absl::Status status = update.Bind(host, next_epoch, name).Run().status();
    return absl::IsNotFound(status) ? NotFound("host", host) : status;
  }

  absl::Status WriteProgress(const MigrationRow& migration) {
    Statement update(db_, kUpdateMigration);
    BindProgress(update.Bind(migration.mode), migration);
    return ExpectOne(update.Bind(migration.id).Run(), "migration", migration.id);
  }

  absl::Status WhyMigrationExists(const MigrationRow& migration) {
    SEALIFT_ASSIGN_OR_RETURN(const std::optional<MigrationRow> running, FindRunning(migration.vm));
    if (running) {
      return absl::AlreadyExistsError(
          fmt::format("VM \"{}\" is being migrated already (migration {} to host \"{}\")",
                      migration.vm, running->id, running->destination));
    }
    return absl::AlreadyExistsError(fmt::format(
        "migration {} or its request \"{}\" is known already", migration.id, migration.request_id));
  }

  std::mutex mutex_;
  const OwnedDatabase owned_;
  sqlite3* const db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenSqliteStore(const std::string& path) {
  SEALIFT_ASSIGN_OR_RETURN(OwnedDatabase database, OpenDatabase(path));
  return std::make_unique<SqliteStore>(std::move(database));
}

}  // namespace sealift::store
