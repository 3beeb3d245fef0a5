#include "cli/app.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <memory>

#include "cli/command.h"
#include "cli/completion.h"
#include "cli/controller.h"
#include "cli/format.h"
#include "cli/terminal.h"
#include "rpc/credentials.h"
#include "rpc/protocol.h"

namespace sealift::cli {
namespace {

// CommandLine is the tree of nouns and verbs and what parsing fills in.
struct CommandLine {
  Settings settings;
  Action action;  // of the verb that was chosen
  CLI::App app;

  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
};

// HelpFormatter writes options the way manuals do: "--to HOST".
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(30); }

  std::string make_option_opts(const CLI::Option* option) const override {
    const bool named = option->nonpositional() && option->get_items_expected_max() > 0;
    return named ? " " + option->get_type_name() : "";
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    if (option->get_envname().empty()) return option->get_description();
    return fmt::format("{} [{}]", option->get_description(), option->get_envname());
  }
};

void AddSettings(CLI::App& app, Settings& settings) {
  app.add_option("--context", settings.context,
                 "Context file: the controller's address and your certificate")
      ->type_name(kFileType)
      ->envname("SEALIFT_CONTEXT");
  app.add_option("--controller", settings.controller,
                 "Address of the controller in place of the one in the context file")
      ->type_name("HOST:PORT")
      ->envname("SEALIFT_CONTROLLER");
  app.add_option("-o,--output", settings.format, "Format of what is printed on stdout")
      ->check(CLI::IsMember({"table", "json", "yaml", "csv"}).description(""))
      ->type_name("table|json|yaml|csv")
      ->envname("SEALIFT_OUTPUT");
  app.add_option("--timeout", settings.timeout_s,
                 "Longest wait for an answer of the controller (default: 60)")
      ->check(CLI::Range(1U, 86400U).description(""))
      ->type_name("SECONDS")
      ->envname("SEALIFT_TIMEOUT");
}

std::string Footer() {
  return "Options of `sealift` itself may stand after a verb, too. What is not given as an option "
         "comes from the\nenvironment, then from ~/.config/sealift/context.yaml, then from "
         "/etc/sealift/context.yaml. Data is printed on\nstdout, messages on stderr.\n\n" +
         ExitCodeHelp();
}

OutputFormat FormatOf(const Settings& settings) {
  if (settings.format == "json") return OutputFormat::kJson;
  if (settings.format == "csv") return OutputFormat::kCsv;
  return settings.format == "yaml" ? OutputFormat::kYaml : OutputFormat::kTable;
}

// Chosen is the path of nouns and verbs that were recognised: "sealift vm migrate".
std::string Chosen(const CLI::App& app) {
  std::string path = app.get_name();
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    path += " " + at->get_name();
  }
  return path;
}

int ReportParseError(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error, std::cout, std::cerr);
  // A word that has no place explains what is missing, too.
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  const std::string what =
      unknown.empty() ? error.what() : fmt::format("unknown argument '{}'", unknown.front());
  std::cerr << fmt::format("sealift: {}\n`{} --help` tells more\n", Printable(what), Chosen(app));
  return static_cast<int>(ExitCode::kUsage);
}

ExitCode RunAction(const CommandLine& line, Interrupts& interrupts) {
  Output output(FormatOf(line.settings), std::cout, std::cerr, ColourFor(STDOUT_FILENO));
  Session session(line.settings, output, interrupts);
  const absl::StatusOr<ExitCode> result = line.action(session);
  absl::Status status = result.status();
  if (const absl::Status flushed = output.Flush(); status.ok()) status = flushed;
  if (status.ok()) return *result;
  output.Error(base::MessageOf(status));
  return ExitCodeOf(status);
}

// In this file because its scripts are made from the parser's own tree.
void AddCompletionCommand(CLI::App& app, const Noun& root, Action& chosen) {
  const Noun completion = root.AddNoun("completion", "Print a completion script for a shell");
  const auto add = [&](const char* name, Shell shell, const char* description) {
    static_cast<void>(completion.AddVerb(name, description, [&app, &chosen, shell] {
      chosen = [&app, shell](Session& session) -> absl::StatusOr<ExitCode> {
        session.output().PrintText(CompletionScript(app, shell));
        return ExitCode::kDone;
      };
    }));
  };
  add("bash", Shell::kBash, "For bash: source <(sealift completion bash)");
  add("zsh", Shell::kZsh, "For zsh: source <(sealift completion zsh)");
  add("fish", Shell::kFish, "For fish: sealift completion fish | source");
}

CommandLine::CommandLine()
    : app("sealift moves running virtual machines between hosts, encrypted.", "sealift") {
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", std::string(rpc::kVersion));
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(Footer);
  AddSettings(app, settings);
  const Noun root(app);
  AddHostCommands(root, action);
  AddVmCommands(root, action);
  AddMigrationCommands(root, action);
  AddPolicyCommands(root, action);
  AddUserCommands(root, action);
  AddAuditCommand(root, action);
  AddEventsCommand(root, action);
  AddVersionCommand(root, action);
  AddCompletionCommand(app, root, action);
}

}  // namespace

int RunCommandLine(int argc, const char* const* argv) {
  rpc::RequireTls13();
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // errors are told by us, once
  Interrupts interrupts;
  CommandLine line;
  try {
    line.app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return ReportParseError(line.app, error);
  }
  return static_cast<int>(RunAction(line, interrupts));
}

}  // namespace sealift::cli
