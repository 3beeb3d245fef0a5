// What the controller must not forget: hosts, VMs, migrations, events, join tokens, revoked
// certificates. Nothing secret of a migration is ever stored, and of a join token only its SHA-256.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::store {

// Times are milliseconds since 1970 UTC; 0 means never. Names are unique keys.

struct HostRow {
  std::string name;
  std::string address;
  std::string certificate_serial;  // of the certificate in force; empty until it has joined
  std::int64_t certificate_not_after = 0;
  std::int64_t created = 0;
  std::int64_t last_seen = 0;
  std::string group;            // for floors and defaults; empty: none
  bool draining = false;        // takes no more VMs
  std::int64_t dead_since = 0;  // confirmed: its VMs may start elsewhere
  bool unheard = false;         // since the store was restored from a backup
  bool written_off = false;     // was confirmed dead, and may hold what is another's since
};

// PolicyRow is the floor and the default mode of one group of hosts.
struct PolicyRow {
  std::string group;         // empty: the whole installation
  std::string floor;         // empty: none
  std::string default_mode;  // of new VMs; empty: none

  bool operator==(const PolicyRow&) const = default;
};

struct UserRow {
  std::string name;
  std::string role;    // "viewer", "operator", "admin"
  std::string rights;  // beyond those of the role, "migrate-encrypted,change-mode"
  std::int64_t created = 0;
  std::string request_sha256{};  // of the certificate request it was made with, hexadecimal
};

struct UserCertificateRow {
  std::string serial;
  std::string user;
  std::int64_t not_after = 0;
};

struct VmRow {
  std::string name;
  std::string uuid;
  std::string host;         // the owner
  std::uint64_t epoch = 1;  // grows with every change of owner
  std::string definition;   // canonical YAML
  std::string encryption;   // the mode that was set: "disabled", "opportunistic", "required"
  std::uint64_t policy_version = 1;  // grows whenever the mode in force may have changed
  std::int64_t created = 0;
  bool unconfirmed = false;  // since a restore no host was found to have it
};

// RestoreRow says that the store is a copy from `backup_made` (0: nobody knows), in use since
// `time`: agents may hold what is newer.
struct RestoreRow {
  std::int64_t time = 0;
  std::int64_t backup_made = 0;
};

struct MigrationRow {
  std::string id;  // 32 hexadecimal digits
  std::string request_id;
  std::string vm;
  std::string source;
  std::string destination;
  std::string requested_by;
  std::string mode;
  bool encrypted = false;
  std::string decision_reason;
  std::string cipher;
  std::string aead_backend;
  std::string engine;
  std::string engine_reason;
  std::uint32_t streams = 0;
  std::string phase;  // a name of migration/phase.h
  std::string detail;
  std::string running_on;
  std::uint64_t ram_total_bytes = 0;
  std::uint64_t ram_transferred_bytes = 0;
  std::uint64_t wire_bytes = 0;
  std::uint64_t downtime_ms = 0;
  std::int64_t started = 0;
  std::int64_t ended = 0;
  bool queued = false;            // it waits for its turn: nobody was told of it
  std::string on_no_convergence;  // "fail", "throttle", empty: not said
  // Told to the source, which gives it away with its commit: who shows it was told of one.
  std::string receipt;
};

struct EventRow {
  std::int64_t number = 0;  // assigned by the store, grows
  std::int64_t time = 0;
  std::string type;
  std::string subject;
  std::string actor;
  std::string text;
};

struct JoinTokenRow {
  std::string host;
  std::string secret_sha256;  // hexadecimal
  std::int64_t expires = 0;
};

// VmUpdate replaces what may change of one VM.
struct VmUpdate {
  std::string name;
  std::string definition;
  std::string encryption;
};

// MigrationFilter chooses migrations; what is empty or zero chooses all.
struct MigrationFilter {
  std::string vm;
  std::int64_t since = 0;  // started at or after
  std::int64_t until = 0;  // started before
  bool in_the_clear = false;
  std::size_t limit = 0;  // the newest so many
};

// MigrationCounts of all that were ever made.
struct MigrationCounts {
  std::uint64_t all = 0;
  std::uint64_t in_the_clear = 0;
};

// Store is durable: a call that returned OK survives a power cut. Every call is atomic.
// Thread-safe. Errors: NOT_FOUND for a missing row (also the host a row refers to), ALREADY_EXISTS
// for a name or uuid taken, ABORTED where a compare failed, RESOURCE_EXHAUSTED for a full disk,
// INTERNAL for anything else of the database.
class Store {
 public:
  virtual ~Store() = default;

  [[nodiscard]] virtual absl::Status CreateHost(const HostRow& host) = 0;
  [[nodiscard]] virtual absl::Status UpdateHost(const HostRow& host) = 0;
  [[nodiscard]] virtual absl::StatusOr<HostRow> GetHost(const std::string& name) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::vector<HostRow>> ListHosts() = 0;
  // DeleteHost also revokes its certificate and drops its token. FAILED_PRECONDITION while it owns
  // VMs or takes part in a migration that has not ended.
  [[nodiscard]] virtual absl::Status DeleteHost(const std::string& name, std::int64_t now) = 0;

  // PutJoinToken replaces an earlier token of the host.
  [[nodiscard]] virtual absl::Status PutJoinToken(const JoinTokenRow& token) = 0;
  // TakeJoinToken uses a token up: NOT_FOUND unless host and hash match and it has not expired at
  // `now`. It is gone afterwards.
  [[nodiscard]] virtual absl::Status TakeJoinToken(const std::string& host,
                                                   const std::string& secret_sha256,
                                                   std::int64_t now) = 0;

  [[nodiscard]] virtual absl::Status RevokeCertificate(const std::string& serial,
                                                       std::int64_t now) = 0;
  [[nodiscard]] virtual absl::StatusOr<bool> IsRevoked(const std::string& serial) = 0;

  // CreateUser is ALREADY_EXISTS for a name taken. DeleteUser forgets the user's certificates too.
  [[nodiscard]] virtual absl::Status CreateUser(const UserRow& user) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::vector<UserRow>> ListUsers() = 0;
  [[nodiscard]] virtual absl::Status DeleteUser(const std::string& name) = 0;
  // PutUserCertificate adds one; NOT_FOUND for an unknown user. Those of that user that had expired
  // at `now` go.
  [[nodiscard]] virtual absl::Status PutUserCertificate(const UserCertificateRow& certificate,
                                                        std::int64_t now) = 0;
  // FindUser is whose certificate it is, if anybody's.
  [[nodiscard]] virtual absl::StatusOr<std::optional<UserRow>> FindUser(
      const std::string& certificate_serial) = 0;

  // PutPolicy replaces the row of a group; one without floor and default is removed. The
  // policy_version of every VM grows.
  [[nodiscard]] virtual absl::Status PutPolicy(const PolicyRow& policy) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::vector<PolicyRow>> ListPolicies() = 0;
  // SetHostGroup also lets the policy_version of the host's VMs grow.
  [[nodiscard]] virtual absl::Status SetHostGroup(const std::string& host,
                                                  const std::string& group) = 0;

  // CreateVm gives the VM its epoch, above every one that a VM of this name has had, and returns
  // the row as it is stored.
  [[nodiscard]] virtual absl::StatusOr<VmRow> CreateVm(const VmRow& vm) = 0;
  // AdoptVm writes what a host was found to have: a VM that the store did not know, or in place of
  // `before`. ABORTED when the row is not `before`'s any more (its epoch, its policy_version).
  [[nodiscard]] virtual absl::Status AdoptVm(const std::optional<VmRow>& before,
                                             const VmRow& vm) = 0;
  // UpdateVms changes all or none, and the policy_version of each grows; a VM that is gone is left
  // out.
  [[nodiscard]] virtual absl::Status UpdateVms(const std::vector<VmUpdate>& updates) = 0;
  // MoveVm makes `host` the owner under a new epoch: `expected_epoch` + 1, and, once the store was
  // restored, not below the time of that. ABORTED when the epoch is another.
  [[nodiscard]] virtual absl::Status MoveVm(const std::string& name, std::uint64_t expected_epoch,
                                            const std::string& host) = 0;
  [[nodiscard]] virtual absl::StatusOr<VmRow> GetVm(const std::string& name) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::vector<VmRow>> ListVms() = 0;
  // DeleteVm keeps the VM's ended migrations, its events and its epoch. FAILED_PRECONDITION while
  // it is being migrated.
  [[nodiscard]] virtual absl::Status DeleteVm(const std::string& name) = 0;
  // PastEpoch is the last epoch of a VM that was deleted; 0: there was none.
  [[nodiscard]] virtual absl::StatusOr<std::uint64_t> PastEpoch(const std::string& name) = 0;

  // CreateMigration refuses with ALREADY_EXISTS when the VM has a migration that has not ended, or
  // the request_id (if any) is known.
  [[nodiscard]] virtual absl::Status CreateMigration(const MigrationRow& migration) = 0;
  // UpdateMigration replaces what may change while it runs; id, request_id, vm, source,
  // destination, requested_by, on_no_convergence and started stay.
  [[nodiscard]] virtual absl::Status UpdateMigration(const MigrationRow& migration) = 0;
  // FinishMove ends a migration that was committed (`ended` and `phase` are set) and makes its
  // destination the owner under `expected_epoch` + 1, in one transaction. Doing it again is OK,
  // also after the VM has moved on. ABORTED when the epoch is another.
  [[nodiscard]] virtual absl::Status FinishMove(const MigrationRow& migration,
                                                std::uint64_t expected_epoch) = 0;
  // VoidMove ends a migration whose destination may have taken the VM unheard, under the epoch that
  // it was promised: the owner stays, under one that is above it (MoveVm's rule), in one
  // transaction. Doing it again is OK.
  [[nodiscard]] virtual absl::Status VoidMove(const MigrationRow& migration,
                                              std::uint64_t promised_epoch) = 0;
  [[nodiscard]] virtual absl::StatusOr<MigrationRow> GetMigration(const std::string& id) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::optional<MigrationRow>> FindMigrationByRequest(
      const std::string& request_id) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::optional<MigrationRow>> FindRunningMigration(
      const std::string& vm) = 0;
  // Newest first.
  [[nodiscard]] virtual absl::StatusOr<std::vector<MigrationRow>> ListMigrations(
      const MigrationFilter& filter) = 0;

  [[nodiscard]] virtual absl::StatusOr<MigrationCounts> CountMigrations() = 0;

  // MarkRestored notes that the store is older than what agents hold: every host is unheard and not
  // known to be dead, every VM unconfirmed, no join token good any more.
  [[nodiscard]] virtual absl::Status MarkRestored(const RestoreRow& restore) = 0;
  // LastRestore is the newest, if any.
  [[nodiscard]] virtual absl::StatusOr<std::optional<RestoreRow>> LastRestore() = 0;
  // WriteOffUnheard gives up hearing the hosts that are unheard and dead. Their own VMs are lost
  // with them. Whatever else they have is void: every VM that is not being migrated gets a new
  // epoch (MoveVm's rule), above any that they can hold.
  [[nodiscard]] virtual absl::Status WriteOffUnheard() = 0;

  // AddEvents assigns the numbers.
  [[nodiscard]] virtual absl::Status AddEvents(const std::vector<EventRow>& events) = 0;
  // Oldest first, numbers above `after`, the newest `limit` of them; `subject` empty: all.
  [[nodiscard]] virtual absl::StatusOr<std::vector<EventRow>> ListEvents(
      std::int64_t after, std::size_t limit, const std::string& subject) = 0;
};

}  // namespace sealift::store
