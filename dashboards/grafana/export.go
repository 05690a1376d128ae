package grafana

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spillway-live/spillway/analytics/alerts/rules"
	"github.com/spillway-live/spillway/dashboards/queries"
)

// datasourceYAML is filled by Grafana from its environment when it starts.
const datasourceYAML = `# Data source of the Spillway walls. Grafana replaces the variables from its environment:
# SPILLWAY_CLICKHOUSE_HOST and SPILLWAY_CLICKHOUSE_PORT (native protocol), SPILLWAY_CLICKHOUSE_USER (analyst, or
# another who may read), SPILLWAY_CLICKHOUSE_PASSWORD (may be empty).
# It needs the plugin: grafana cli plugins install ` + PluginType + `
apiVersion: 1
datasources:
  - name: ` + DatasourceName + `
    uid: ` + DatasourceUID + `
    type: ` + PluginType + `
    access: proxy
    isDefault: false
    editable: false
    jsonData:
      host: ${SPILLWAY_CLICKHOUSE_HOST}
      port: ${SPILLWAY_CLICKHOUSE_PORT}
      protocol: native
      secure: false
      username: ${SPILLWAY_CLICKHOUSE_USER}
      defaultDatabase: spillway
    secureJsonData:
      password: ${SPILLWAY_CLICKHOUSE_PASSWORD}
`

const providerYAML = `# Dashboards of Spillway: Grafana reads the JSON files of the folder named by SPILLWAY_DASHBOARDS.
apiVersion: 1
providers:
  - name: spillway
    orgId: 1
    folder: ` + FolderTitle + `
    folderUid: ` + FolderUID + `
    type: file
    disableDeletion: false
    allowUiUpdates: false
    updateIntervalSeconds: 30
    options:
      path: ${SPILLWAY_DASHBOARDS}
      foldersFromFilesStructure: false
`

// Files gives every file of the provisioning folder by its path in it: dashboards/<uid>.json, and
// spillway.yaml in provisioning/datasources, provisioning/dashboards and provisioning/alerting.
// Alert rules are those held; nil: as they come.
func Files(th queries.Thresholds, held []rules.Rule) (map[string][]byte, error) {
	alerting, err := alertingYAML(held)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{
		"provisioning/datasources/spillway.yaml": []byte(datasourceYAML),
		"provisioning/dashboards/spillway.yaml":  []byte(providerYAML),
		"provisioning/alerting/spillway.yaml":    alerting,
	}
	for _, w := range queries.Walls(th) {
		b, err := JSON(w)
		if err != nil {
			return nil, err
		}
		out["dashboards/"+w.UID+".json"] = b
	}
	return out, nil
}

// Export writes [Files] into dir, which is made if missing. Other files there are left alone.
func Export(dir string, th queries.Thresholds, held []rules.Rule) error {
	files, err := Files(th, held)
	if err != nil {
		return fmt.Errorf("export dashboards: %w", err)
	}
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("export dashboards: %w", err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return fmt.Errorf("export dashboards: %w", err)
		}
	}
	return nil
}
