// The context file: everything `sealift` needs to talk to one controller, in one file that can be
// copied. It is YAML:
//
//   controller: 192.0.2.10:7440
//   trust_domain: 0f9c….sealift
//   ca: |
//     -----BEGIN CERTIFICATE-----
//   identity: |
//     -----BEGIN PRIVATE KEY-----  (the operator's key, then its certificate chain)
//
// It holds a private key, so it must be readable by its owner only. `sealift-controllerd init`
// writes the first one.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::cli {

// Context is a value; ReadContext leaves no field empty.
struct Context {
  std::string controller;    // host:port of the operator endpoint
  std::string trust_domain;  // of the controller's spiffe:// identity
  std::string ca_pem;
  std::string identity_pem;  // private key and certificate chain
  bool operator==(const Context&) const = default;
};

// ContextPaths lists where a context file is looked for when none is named: the user's own
// ($XDG_CONFIG_HOME or ~/.config, then sealift/context.yaml), then /etc/sealift/context.yaml.
[[nodiscard]] std::vector<std::string> ContextPaths();

// FindContext gives the path to read: `named` when it is not empty, else the first of `paths` that
// exists. INVALID_ARGUMENT, with the remedy, when there is none.
[[nodiscard]] absl::StatusOr<std::string> FindContext(const std::string& named,
                                                      const std::vector<std::string>& paths);

// ReadContext refuses a file that anybody but its owner may read or write (PERMISSION_DENIED), and
// one that is malformed, lacks a key or has an unknown one (INVALID_ARGUMENT, naming file, line and
// key).
[[nodiscard]] absl::StatusOr<Context> ReadContext(const std::string& path);

// WriteContext replaces the file in one step, with mode 0600. Folders are not made.
[[nodiscard]] absl::Status WriteContext(const std::string& path, const Context& context);

}  // namespace sealift::cli
