// What the files of `sealift vm` share.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/command.h"

namespace sealift::cli {

// AddVmName adds the positional argument that names the VM.
void AddVmName(const Verb& verb, std::string& name);

// ReportVm tells what became of a VM.
void ReportVm(Output& output, const v1::Vm& vm);

// WithFile puts the name of the file in front of an error in a definition, the way compilers do:
// the controller's "line 4: memory: …" becomes "web1.yaml:4: memory: …". Other errors stay as they
// are.
[[nodiscard]] absl::Status WithFile(const absl::Status& status, const std::string& file);

void AddVmCreateVerb(const Noun& vm, Action& chosen);
void AddVmSetVerb(const Noun& vm, Action& chosen);
void AddVmMigrateVerb(const Noun& vm, Action& chosen);
void AddVmConsoleVerb(const Noun& vm, Action& chosen);

}  // namespace sealift::cli
