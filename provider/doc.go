// Package provider holds the words of the field (scaling group, instance, lifecycle
// state, process, image, disk) and the interfaces through which a Runner of package
// rollingupgrade reaches a cloud. It imports only the standard library.
//
// To support another cloud, implement [Provider] and run the suite of package
// provider/providertest on it. To add an own kind of update, implement [Updater].
//
// Facts about Alibaba Cloud in the comments come from the API references of Auto
// Scaling (ESS, version 2014-08-28) and ECS (version 2014-05-26).
package provider
