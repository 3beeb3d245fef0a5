#include "controller/user_service.h"

#include "base/status.h"
#include "controller/edge.h"

namespace sealift::controller {

using policy::Right;

grpc::Status UserServiceImpl::Add(grpc::ServerContext* context, const v1::AddUserRequest* request,
                                  v1::AddUserResponse* response) {
  return Answer(store_, *context, "user add", Right::kManageUsers,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(*response, users_.Add(*request, caller.uri));
                  return absl::OkStatus();
                });
}

grpc::Status UserServiceImpl::List(grpc::ServerContext* context, const v1::ListUsersRequest*,
                                   v1::ListUsersResponse* response) {
  return Answer(store_, *context, "user list", Right::kManageUsers,
                [&](const Caller&) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(const std::vector<v1::User> users, users_.List());
                  response->mutable_users()->Assign(users.begin(), users.end());
                  return absl::OkStatus();
                });
}

grpc::Status UserServiceImpl::Revoke(grpc::ServerContext* context,
                                     const v1::RevokeUserRequest* request,
                                     v1::RevokeUserResponse*) {
  return Answer(store_, *context, "user revoke", Right::kManageUsers,
                [&](const Caller& caller) { return users_.Revoke(request->name(), caller.uri); });
}

}  // namespace sealift::controller
