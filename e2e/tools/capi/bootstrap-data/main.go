// Bootstrap-data makes what machines boot with as Cluster API's kubeadm provider does, in both of its formats, and reads one of them.
//
// "bootstrap-data make v1.36.3": standard input holds the objects of a cluster template, as YAML documents; of a KubeadmControlPlane
// come the first control plane machine and one that joins, of a KubeadmConfigTemplate a worker. The line of JSON on standard output
// has the cloud-config and the Ignition config of each by a name.
//
// "bootstrap-data validate": standard input is an Ignition config, which has to be one of the version that it says it is of. What
// the validator only warns of is let through: it does so of a key that the provider's own library writes.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/blang/semver/v4"
	validator "github.com/flatcar/ignition/config/v2_3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/cloudinit"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/ignition"
	kubeadmtypes "sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/types"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/types/upstream"
	"sigs.k8s.io/cluster-api/util/secret"
)

type made struct {
	CloudConfig string `json:"cloudConfig"`
	Ignition    string `json:"ignition"`
}

// What a joining machine is told by the provider, which knows the cluster.
var discovery = bootstrapv1.Discovery{BootstrapToken: bootstrapv1.BootstrapTokenDiscovery{
	Token:             "abcdef.0123456789abcdef",
	APIServerEndpoint: "192.0.2.1:6443",
	CACertHashes:      []string{"sha256:0000000000000000000000000000000000000000000000000000000000000000"},
}}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	switch {
	case len(arguments) == 2 && arguments[0] == "make":
		all, err := readAll(os.Stdin, arguments[1])
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(all)
	case len(arguments) == 1 && arguments[0] == "validate":
		config, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		if _, report, err := validator.Parse(config); err != nil {
			return fmt.Errorf("%w: %s", err, report.String())
		}
		return nil
	}
	return errors.New("bootstrap-data make VERSION | validate")
}

func readAll(input io.Reader, kubernetes string) (map[string]made, error) {
	version, err := semver.ParseTolerant(kubernetes)
	if err != nil {
		return nil, err
	}
	all := map[string]made{}
	documents := yaml.NewYAMLOrJSONDecoder(input, 4096)
	for {
		var object map[string]any
		if err := documents.Decode(&object); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if err := makeOf(object, version, all); err != nil {
			return nil, fmt.Errorf("%v: %w", object["kind"], err)
		}
	}
}

// The specs are read strictly: a field that the provider does not know is a fault of the template.
func makeOf(object map[string]any, version semver.Version, all map[string]made) error {
	convert := runtime.DefaultUnstructuredConverter
	switch object["kind"] {
	case "KubeadmControlPlane":
		var controlPlane controlplanev1.KubeadmControlPlane
		if err := convert.FromUnstructuredWithValidation(object, &controlPlane, true); err != nil {
			return err
		}
		return controlPlanes(controlPlane.Name, controlPlane.Spec.KubeadmConfigSpec, version, all)
	case "KubeadmControlPlaneTemplate":
		var template controlplanev1.KubeadmControlPlaneTemplate
		if err := convert.FromUnstructuredWithValidation(object, &template, true); err != nil {
			return err
		}
		return controlPlanes(template.Name, template.Spec.Template.Spec.KubeadmConfigSpec, version, all)
	case "KubeadmConfigTemplate":
		var template bootstrapv1.KubeadmConfigTemplate
		if err := convert.FromUnstructuredWithValidation(object, &template, true); err != nil {
			return err
		}
		worker, err := joining(template.Spec.Template.Spec, version, false)
		if err != nil {
			return err
		}
		all[template.Name] = worker
	}
	return nil
}

func controlPlanes(name string, spec bootstrapv1.KubeadmConfigSpec, version semver.Version, all map[string]made) error {
	first, err := initial(spec, version)
	if err != nil {
		return err
	}
	further, err := joining(spec, version, true)
	if err != nil {
		return err
	}
	all[name+"-first"], all[name+"-further"] = first, further
	return nil
}

func user(spec bootstrapv1.KubeadmConfigSpec, version semver.Version) cloudinit.BaseUserData {
	return cloudinit.BaseUserData{
		AdditionalFiles:     spec.Files,
		BootCommands:        spec.BootCommands,
		PreKubeadmCommands:  spec.PreKubeadmCommands,
		PostKubeadmCommands: spec.PostKubeadmCommands,
		Users:               spec.Users,
		Mounts:              spec.Mounts,
		KubernetesVersion:   version,
	}
}

func initial(spec bootstrapv1.KubeadmConfigSpec, version semver.Version) (made, error) {
	number, name := "v"+version.String(), "cluster"
	more := upstream.AdditionalData{KubernetesVersion: &number, ClusterName: &name}
	cluster, err := kubeadmtypes.MarshalClusterConfigurationForVersion(&spec.ClusterConfiguration, version, &more)
	if err != nil {
		return made{}, err
	}
	initConfiguration, err := kubeadmtypes.MarshalInitConfigurationForVersion(&spec.InitConfiguration, version)
	if err != nil {
		return made{}, err
	}
	certificates := secret.NewCertificatesForInitialControlPlane(&spec.ClusterConfiguration)
	if err := certificates.Generate(); err != nil {
		return made{}, err
	}
	input := func() *cloudinit.ControlPlaneInput {
		return &cloudinit.ControlPlaneInput{
			BaseUserData:         user(spec, version),
			Certificates:         certificates,
			ClusterConfiguration: cluster,
			InitConfiguration:    initConfiguration,
		}
	}
	cloudConfig, err := cloudinit.NewInitControlPlane(input())
	if err != nil {
		return made{}, err
	}
	config, warnings, err := ignition.NewInitControlPlane(&ignition.ControlPlaneInput{ControlPlaneInput: input(), Ignition: &spec.Ignition})
	return both(cloudConfig, config, warnings, err)
}

func joining(spec bootstrapv1.KubeadmConfigSpec, version semver.Version, controlPlane bool) (made, error) {
	spec.JoinConfiguration.Discovery = discovery
	if controlPlane && spec.JoinConfiguration.ControlPlane == nil {
		spec.JoinConfiguration.ControlPlane = &bootstrapv1.JoinControlPlane{}
	}
	configuration, err := kubeadmtypes.MarshalJoinConfigurationForVersion(&spec.JoinConfiguration, version)
	if err != nil {
		return made{}, err
	}
	if !controlPlane {
		input := func() *cloudinit.NodeInput {
			return &cloudinit.NodeInput{BaseUserData: user(spec, version), JoinConfiguration: configuration}
		}
		cloudConfig, err := cloudinit.NewNode(input())
		if err != nil {
			return made{}, err
		}
		config, warnings, err := ignition.NewNode(&ignition.NodeInput{NodeInput: input(), Ignition: &spec.Ignition})
		return both(cloudConfig, config, warnings, err)
	}
	certificates := secret.NewControlPlaneJoinCerts(&spec.ClusterConfiguration)
	if err := certificates.Generate(); err != nil {
		return made{}, err
	}
	input := func() *cloudinit.ControlPlaneJoinInput {
		return &cloudinit.ControlPlaneJoinInput{
			BaseUserData:      user(spec, version),
			Certificates:      certificates,
			JoinConfiguration: configuration,
		}
	}
	cloudConfig, err := cloudinit.NewJoinControlPlane(input())
	if err != nil {
		return made{}, err
	}
	config, warnings, err := ignition.NewJoinControlPlane(&ignition.ControlPlaneJoinInput{ControlPlaneJoinInput: input(), Ignition: &spec.Ignition})
	return both(cloudConfig, config, warnings, err)
}

func both(cloudConfig, config []byte, warnings string, err error) (made, error) {
	if err == nil && warnings != "" {
		err = errors.New("ignition: " + warnings)
	}
	return made{CloudConfig: string(cloudConfig), Ignition: string(config)}, err
}
