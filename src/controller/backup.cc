#include "controller/backup.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/installation.h"
#include "pki/certificate.h"
#include "pki/identity.h"
#include "pki/key_encryption.h"
#include "store/backup.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

constexpr char kCaCertificate[] = "ca.crt";
constexpr char kCaKey[] = "ca.key";
constexpr char kAddress[] = "address";
constexpr char kRestoreActor[] = "sealift-controllerd restore";

// Key wipes a private key when it goes.
class Key {
 public:
  explicit Key(std::string pem) : pem_(std::move(pem)) {}
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() { pki::WipeKey(pem_); }
  [[nodiscard]] const std::string& pem() const { return pem_; }

 private:
  std::string pem_;
};

const std::string* Find(const store::Backup& backup, std::string_view name) {
  const auto found = std::ranges::find(backup.files, name, &store::BackupFile::name);
  return found == backup.files.end() ? nullptr : &found->content;
}

absl::StatusOr<std::string> EncryptedKey(const StateFiles& files, const AskPassphrase& ask) {
  SEALIFT_ASSIGN_OR_RETURN(std::string pem, base::ReadFile(files.ca_key));
  const Key key(std::move(pem));
  SEALIFT_ASSIGN_OR_RETURN(const std::string passphrase, ask());
  return pki::EncryptPrivateKey(key.pem(), passphrase);
}

absl::Status CheckNothingThere(const StateFiles& files) {
  for (const std::string& file : {files.ca_key, files.ca_certificate, files.identity, files.address,
                                  files.database, files.database + "-wal"}) {
    if (access(file.c_str(), F_OK) != 0 && errno == ENOENT) continue;
    return absl::FailedPreconditionError(fmt::format(
        "{} exists: a backup is never restored over an installation; move the folder away, or name "
        "another one with --state-dir",
        file));
  }
  return absl::OkStatus();
}

std::string DraftOf(const std::string& database) { return database + ".restoring"; }

// SQLite would take the log of another database for one of this name's.
absl::Status RemoveDatabase(const std::string& path) {
  for (const char* suffix : {"", "-wal", "-shm", "-journal"}) {
    SEALIFT_RETURN_IF_ERROR(base::RemoveFileDurably(path + suffix));
  }
  return absl::OkStatus();
}

// What the backup says of the CA's key, in the clear; empty: it was left out.
absl::StatusOr<std::string> KeyOf(const store::Backup& backup, const std::string& certificate,
                                  const AskPassphrase& ask, const base::Clock& clock) {
  const std::string* encrypted = Find(backup, kCaKey);
  if (encrypted == nullptr) return std::string();
  SEALIFT_ASSIGN_OR_RETURN(const std::string passphrase, ask());
  absl::StatusOr<std::string> key = pki::DecryptPrivateKey(*encrypted, passphrase);
  if (absl::IsPermissionDenied(key.status())) {
    return absl::PermissionDeniedError(
        "the passphrase is not the one that the backup was made with");
  }
  SEALIFT_RETURN_IF_ERROR(key.status());
  SEALIFT_RETURN_IF_ERROR(base::Annotate(
      pki::CertificateAuthority::Load(certificate, *key, clock).status(), "the backup's CA"));
  return key;
}

// Nobody knows how far a migration that had not ended has come since: its source does.
absl::Status LeaveMigrationsToTheirSources(store::Store& store) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> vms, store.ListVms());
  for (const store::VmRow& vm : vms) {
    SEALIFT_ASSIGN_OR_RETURN(auto migration, store.FindRunningMigration(vm.name));
    if (!migration || ParsePhase(migration->phase) != v1::MIGRATION_PHASE_PREPARING) continue;
    migration->phase = PhaseName(v1::MIGRATION_PHASE_COPYING);
    migration->queued = false;
    SEALIFT_RETURN_IF_ERROR(store.UpdateMigration(*migration));
  }
  return absl::OkStatus();
}

absl::Status AddHosts(store::Store& store, const std::vector<std::string>& names,
                      std::int64_t now) {
  for (const std::string& name : names) {
    store::HostRow row;
    row.name = name;
    row.created = now;
    absl::Status created = store.CreateHost(row);
    if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  }
  return absl::OkStatus();
}

// Makes the store a restored one, with the hosts it is to wait for.
absl::Status Mark(store::Store& store, std::int64_t made,
                  const std::vector<std::string>& joined_since, const base::Clock& clock) {
  const std::int64_t now = base::UnixMillis(clock.Now());
  SEALIFT_RETURN_IF_ERROR(LeaveMigrationsToTheirSources(store));
  SEALIFT_RETURN_IF_ERROR(AddHosts(store, joined_since, now));
  SEALIFT_RETURN_IF_ERROR(store.MarkRestored({.time = now, .backup_made = made}));
  return store.AddEvents(
      {{.number = 0,
        .time = now,
        .type = "controller.restored",
        .subject = "controller",
        .actor = kRestoreActor,
        .text = fmt::format("from a backup of {}: nothing starts before every host has been heard",
                            base::FormatUtc(base::FromUnixMillis(made)))}});
}

absl::StatusOr<std::vector<std::string>> RestoreStore(const std::string& from,
                                                      const std::string& to, std::int64_t made,
                                                      const std::vector<std::string>& joined_since,
                                                      const base::Clock& clock) {
  const std::string draft = DraftOf(to);
  SEALIFT_RETURN_IF_ERROR(RemoveDatabase(draft));  // of a restore that was interrupted
  SEALIFT_RETURN_IF_ERROR(store::ExtractStore(from, draft));
  std::vector<std::string> names;
  {
    SEALIFT_ASSIGN_OR_RETURN(const auto store, store::OpenSqliteStore(draft));
    SEALIFT_RETURN_IF_ERROR(Mark(*store, made, joined_since, clock));
    SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store->ListHosts());
    for (const store::HostRow& host : hosts) names.push_back(host.name);
  }
  SEALIFT_RETURN_IF_ERROR(base::PublishFile(draft, to));
  return names;
}

// So that it can be tried again. What cannot be removed is named by the next try.
void RemoveAll(const StateFiles& files) {
  for (const std::string* file : {&files.ca_key, &files.ca_certificate, &files.address}) {
    static_cast<void>(base::RemoveFileDurably(*file));
  }
  static_cast<void>(RemoveDatabase(files.database));
  static_cast<void>(RemoveDatabase(DraftOf(files.database)));
}

// A folder that systemd has made belongs to the controller's user; root may restore into it.
absl::Status HandOver(const std::string& state_dir, const StateFiles& files) {
  struct stat folder {};
  if (geteuid() != 0 || stat(state_dir.c_str(), &folder) != 0 || folder.st_uid == 0) {
    return absl::OkStatus();
  }
  for (const std::string* file :
       {&files.database, &files.ca_certificate, &files.address, &files.ca_key}) {
    if (chown(file->c_str(), folder.st_uid, folder.st_gid) != 0 && errno != ENOENT) {
      return base::ErrnoStatus(fmt::format("hand {} over to its user", *file), errno);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status BackUp(const std::string& state_dir, const std::string& to, CaKey key,
                    const AskPassphrase& ask, const base::Clock& clock) {
  const StateFiles files(state_dir);
  store::Backup backup;
  backup.made = base::UnixMillis(clock.Now());
  SEALIFT_ASSIGN_OR_RETURN(std::string certificate, base::ReadFile(files.ca_certificate));
  backup.files.push_back({kCaCertificate, std::move(certificate)});
  SEALIFT_ASSIGN_OR_RETURN(std::string address, base::ReadFile(files.address));
  backup.files.push_back({kAddress, std::move(address)});
  if (key == CaKey::kEncrypted) {
    SEALIFT_ASSIGN_OR_RETURN(std::string encrypted, EncryptedKey(files, ask));
    backup.files.push_back({kCaKey, std::move(encrypted)});
  }
  return store::WriteBackup(files.database, backup, to);
}

absl::StatusOr<Restored> Restore(const std::string& from, const std::string& state_dir,
                                 const std::vector<std::string>& joined_since,
                                 const AskPassphrase& ask, const base::Clock& clock) {
  const StateFiles files(state_dir);
  SEALIFT_RETURN_IF_ERROR(CheckNothingThere(files));
  for (const std::string& name : joined_since) {
    SEALIFT_RETURN_IF_ERROR(pki::CheckName("host", name));
  }
  SEALIFT_ASSIGN_OR_RETURN(const store::Backup backup, store::ReadBackup(from));
  const std::string* certificate = Find(backup, kCaCertificate);
  const std::string* address = Find(backup, kAddress);
  if (certificate == nullptr || address == nullptr) {
    return absl::InternalError(fmt::format("backup {} is not whole: take another one", from));
  }
  SEALIFT_ASSIGN_OR_RETURN(std::string pem, KeyOf(backup, *certificate, ask, clock));
  const Key key(std::move(pem));

  Restored restored;
  restored.made = backup.made;
  restored.key = key.pem().empty() ? CaKey::kLeftOut : CaKey::kEncrypted;
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(state_dir, 0700));
  const auto fill = [&]() -> absl::Status {
    SEALIFT_ASSIGN_OR_RETURN(restored.hosts,
                             RestoreStore(from, files.database, backup.made, joined_since, clock));
    SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.address, *address, 0644));
    SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.ca_certificate, *certificate, 0644));
    if (restored.key == CaKey::kEncrypted) {
      SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.ca_key, key.pem()));
    }
    return HandOver(state_dir, files);
  };
  const absl::Status filled = fill();
  if (filled.ok()) return restored;
  RemoveAll(files);
  return filled;
}

}  // namespace sealift::controller
